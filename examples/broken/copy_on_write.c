// SPDX-License-Identifier: GPL-2.0
/*
 * Question B's mistake. vmalloc'd memory is mapped page by page, and nobody looks at what remap_pfn_range
 * returns. A program that opens the node read-only and maps it PROT_READ, MAP_PRIVATE dies of SIGBUS.
 */
#include "museum.h"

#define PAGES 16

static char *memory;

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long offset;

	for (offset = 0; offset < vma->vm_end - vma->vm_start && offset < PAGES * PAGE_SIZE; offset += PAGE_SIZE)
		/* Wrong: a copy-on-write mapping wants one call for the whole range; this one returns -EINVAL. */
		remap_pfn_range(vma, vma->vm_start + offset, vmalloc_to_pfn(memory + offset), PAGE_SIZE,
				vma->vm_page_prot);
	return 0;
}

static int my_setup(void)
{
	unsigned long page;

	memory = vzalloc(PAGES * PAGE_SIZE);
	if (!memory)
		return -ENOMEM;
	for (page = 0; page < PAGES; page++)
		memcpy(memory + page * PAGE_SIZE, "\xdd\xcc\xbb\xaa", 4);
	return 0;
}

static void my_teardown(void)
{
	vfree(memory);
}

static const struct file_operations exhibit_fops = {
	.owner = THIS_MODULE,
	.mmap = my_mmap,
};

EXHIBIT("copy-on-write", my_setup, my_teardown);
