// SPDX-License-Identifier: GPL-2.0
/* A fault handler that knows the buffer's end, behind an mmap that does not. */
#include "museum.h"

#define PAGES 4

static char *memory;

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	struct page *page;

	if (vmf->pgoff >= PAGES)
		return VM_FAULT_SIGBUS;
	page = vmalloc_to_page(memory + (vmf->pgoff << PAGE_SHIFT));
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct my_vm_ops = { .fault = my_fault };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* Wrong: a mapping longer than the buffer must be refused here. */
	vma->vm_ops = &my_vm_ops;
	return 0;
}

static int my_setup(void)
{
	memory = vmalloc_user(PAGES * PAGE_SIZE);
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

EXHIBIT("fault-refused", my_setup, my_teardown);
