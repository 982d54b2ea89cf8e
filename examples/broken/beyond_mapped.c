// SPDX-License-Identifier: GPL-2.0
/* The buffer has four pages; a longer mapping is not refused, and has nothing behind its rest. */
#include "museum.h"

#define ORDER 2

static unsigned long memory;

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long length = min(vma->vm_end - vma->vm_start, PAGE_SIZE << ORDER);
	int err;

	/* Wrong: what passes the buffer's end must be refused. */
	err = remap_pfn_range(vma, vma->vm_start, virt_to_phys((void *)memory) >> PAGE_SHIFT, length,
			      vma->vm_page_prot);
	return err;
}

static int my_setup(void)
{
	memory = __get_free_pages(GFP_KERNEL | __GFP_ZERO, ORDER);
	return memory ? 0 : -ENOMEM;
}

static void my_teardown(void)
{
	free_pages(memory, ORDER);
}

static const struct file_operations exhibit_fops = {
	.owner = THIS_MODULE,
	.mmap = my_mmap,
};

EXHIBIT("beyond-mapped", my_setup, my_teardown);
