// SPDX-License-Identifier: GPL-2.0
/* An ioctl that reads through a null pointer: an oops that has nothing to do with a mapping. */
#include "report.h"

#define PAGES 4

static char *memory;

static int get_memory(void)
{
	memory = (char *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 2);
	return memory ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	free_pages((unsigned long)memory, 2);
}

static long my_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	return READ_ONCE(*(int *)argument);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .unlocked_ioctl = my_ioctl };

REPORT("report-null-call", get_memory, put_memory);
