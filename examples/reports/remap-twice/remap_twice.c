// SPDX-License-Identifier: GPL-2.0
/* A loop that does not move on in the mapping. */
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
	unsigned long i;
	int err;

	for (i = 0; i < vma_pages(vma); i++) {
		/* Wrong: the same address each time. */
		err = remap_pfn_range(vma, vma->vm_start, pfn + i, PAGE_SIZE, vma->vm_page_prot);
		if (err)
			return err;
	}
	return 0;
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-remap-twice", get_memory, put_memory);
