// SPDX-License-Identifier: GPL-2.0
/* An error number that no program knows: perror prints "Unknown error 524". */
#include "report.h"

static int get_memory(void)
{
	return 0;
}

static void put_memory(void)
{
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	return -ENOTSUPP; /* Wrong: -EOPNOTSUPP. */
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-kernels-own-error", get_memory, put_memory);
