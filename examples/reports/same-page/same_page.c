// SPDX-License-Identifier: GPL-2.0
/* A loop that inserts the first page each time. */
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
	unsigned long pfn = virt_to_phys(memory) >> PAGE_SHIFT;
	unsigned long at;
	int err;

	if (vma->vm_pgoff || vma_pages(vma) > PAGES)
		return -EINVAL;
	for (at = 0; at < vma->vm_end - vma->vm_start; at += PAGE_SIZE) {
		/* Wrong: pfn does not move on. */
		err = remap_pfn_range(vma, vma->vm_start + at, pfn, PAGE_SIZE, vma->vm_page_prot);
		if (err)
			return err;
	}
	return 0;
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-same-page", get_memory, put_memory);
