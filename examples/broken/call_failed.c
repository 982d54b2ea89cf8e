// SPDX-License-Identifier: GPL-2.0
/* The same mistake as in ignored_error.c, but the error is passed on: mmap fails, and nobody knows why. */
#include "museum.h"

static void *memory;

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	int err = remap_vmalloc_range(vma, memory, 0);

	if (err)
		pr_debug("the mapping failed\n");
	return err;
}

static int my_setup(void)
{
	/* Wrong: vmalloc_user is what remap_vmalloc_range wants. */
	memory = vzalloc(4 * PAGE_SIZE);
	return memory ? 0 : -ENOMEM;
}

static void my_teardown(void)
{
	vfree(memory);
}

static const struct file_operations exhibit_fops = {
	.owner = THIS_MODULE,
	.mmap = my_mmap,
};

EXHIBIT("call-failed", my_setup, my_teardown);
