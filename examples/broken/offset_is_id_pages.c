// SPDX-License-Identifier: GPL-2.0
/* The same, for vm_map_pages. */
#include "museum.h"

#define ID 7
#define PAGES 4

static struct page *pages[PAGES];

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	int err;

	if (vma->vm_pgoff != ID)
		return -ENOENT;
	/* Wrong: this function adds vm_pgoff; vm_map_pages_zero does not. */
	err = vm_map_pages(vma, pages, PAGES);
	return err;
}

static void my_teardown(void)
{
	int i;

	for (i = 0; i < PAGES; i++)
		if (pages[i])
			__free_page(pages[i]);
}

static int my_setup(void)
{
	int i;

	for (i = 0; i < PAGES; i++) {
		pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!pages[i]) {
			my_teardown();
			return -ENOMEM;
		}
	}
	return 0;
}

static const struct file_operations exhibit_fops = {
	.owner = THIS_MODULE,
	.mmap = my_mmap,
};

EXHIBIT("offset-is-id-pages", my_setup, my_teardown);
