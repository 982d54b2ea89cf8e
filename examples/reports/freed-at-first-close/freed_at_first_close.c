// SPDX-License-Identifier: GPL-2.0
/* Frees its memory in vm_operations_struct.close, which is called for each part. */
#include "report.h"

#define PAGES 4

static void *memory;

static int get_memory(void)
{
	memory = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 2);
	return memory ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	if (memory)
		free_pages((unsigned long)memory, 2);
}

static void my_close(struct vm_area_struct *vma)
{
	/* Wrong: another part of the mapping may still be there. */
	put_memory();
	memory = NULL;
}

static const struct vm_operations_struct my_ops = { .close = my_close };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (!memory)
		return -ENOMEM;
	vma->vm_ops = &my_ops;
	return remap_pfn_range(vma, vma->vm_start, virt_to_phys(memory) >> PAGE_SHIFT,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-freed-at-first-close", get_memory, put_memory);
