// SPDX-License-Identifier: GPL-2.0
/*
 * remap_vmalloc_range wants memory from vmalloc_user (VM_USERMAP); from vzalloc it is refused with -EINVAL, which
 * this driver does not look at.
 */
#include "museum.h"

static void *memory;

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* Wrong: the result is lost. */
	remap_vmalloc_range(vma, memory, 0);
	return 0;
}

static int my_setup(void)
{
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

EXHIBIT("ignored-error", my_setup, my_teardown);
