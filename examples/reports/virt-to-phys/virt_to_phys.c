// SPDX-License-Identifier: GPL-2.0
/* virt_to_phys of what vmalloc returned. */
#include "report.h"

#define PAGES 4

static char *memory;

static int get_memory(void)
{
	memory = vzalloc(PAGES * PAGE_SIZE);
	return memory ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	vfree(memory);
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff || vma_pages(vma) > PAGES)
		return -EINVAL;
	/* Wrong: it is vmalloc_to_pfn, page by page. */
	return remap_pfn_range(vma, vma->vm_start, virt_to_phys(memory) >> PAGE_SHIFT, vma->vm_end - vma->vm_start,
			       vma->vm_page_prot);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-virt-to-phys", get_memory, put_memory);
