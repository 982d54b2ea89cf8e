// SPDX-License-Identifier: GPL-2.0
/* Frees its memory in vm_operations_struct.close, which is called for each part. */
#include "report.h"

#define PAGES 4

static int get_memory(void)
{
	return 0;
}

static void put_memory(void)
{
}

static void my_close(struct vm_area_struct *vma)
{
	/* Wrong: another part of the mapping may still be there. */
	if (vma->vm_private_data)
		free_pages((unsigned long)vma->vm_private_data, 2);
	vma->vm_private_data = NULL;
}

static const struct vm_operations_struct my_ops = { .close = my_close };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	void *memory = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 2);

	if (!memory)
		return -ENOMEM;
	vma->vm_ops = &my_ops;
	vma->vm_private_data = memory;
	return remap_pfn_range(vma, vma->vm_start, virt_to_phys(memory) >> PAGE_SHIFT,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-freed-at-first-close", get_memory, put_memory);
