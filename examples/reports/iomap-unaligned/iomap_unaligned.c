// SPDX-License-Identifier: GPL-2.0
/* vm_iomap_memory of registers that begin inside a page. */
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
	/* The registers begin inside a page; the program sees the page. */
	return vm_iomap_memory(vma, 0x30000100, 0x100);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-iomap-unaligned", get_memory, put_memory);
