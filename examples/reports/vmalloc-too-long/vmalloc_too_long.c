// SPDX-License-Identifier: GPL-2.0
/* The check of the size is left to remap_vmalloc_range. */
#include "report.h"

#define PAGES 4

static void *memory;

static int get_memory(void)
{
	memory = vmalloc_user(PAGES * PAGE_SIZE);
	return memory ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	vfree(memory);
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	return remap_vmalloc_range(vma, memory, vma->vm_pgoff);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-vmalloc-too-long", get_memory, put_memory);
