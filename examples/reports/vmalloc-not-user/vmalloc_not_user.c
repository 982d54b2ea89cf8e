// SPDX-License-Identifier: GPL-2.0
/* vmalloc instead of vmalloc_user. */
#include "report.h"

#define PAGES 4

static void *memory;

static int get_memory(void)
{
	/* Wrong: this area is not for user space. */
	memory = vzalloc(PAGES * PAGE_SIZE);
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

REPORT("report-vmalloc-not-user", get_memory, put_memory);
