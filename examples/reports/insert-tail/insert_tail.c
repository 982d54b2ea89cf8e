// SPDX-License-Identifier: GPL-2.0
/* vm_insert_page of the pages of a block without __GFP_COMP. */
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
	unsigned long at;

	if (vma->vm_pgoff || vma_pages(vma) > PAGES)
		return -EINVAL;
	/* Wrong: of a block that is no compound page only the first page has a count. */
	for (at = 0; at < vma_pages(vma); at++) {
		int err = vm_insert_page(vma, vma->vm_start + (at << PAGE_SHIFT), virt_to_page(memory) + at);

		if (err)
			return err;
	}
	return 0;
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-insert-tail", get_memory, put_memory);
