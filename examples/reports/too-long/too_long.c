// SPDX-License-Identifier: GPL-2.0
/* vm_iomap_memory knows how long the resource is. */
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

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	return vm_iomap_memory(vma, virt_to_phys(memory), PAGES * PAGE_SIZE);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-too-long", get_memory, put_memory);
