// SPDX-License-Identifier: GPL-2.0
/* A fault handler that works the address out for itself, and forgets that vmf->pgoff has the mapping's offset in it. */
#include "museum.h"

#define PAGES 16

static char *memory;

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	/* Wrong: it is vmf->address. With an offset, this is another page's address, or one behind the mapping. */
	unsigned long address = vmf->vma->vm_start + (vmf->pgoff << PAGE_SHIFT);
	vm_fault_t ret;

	if (vmf->pgoff >= PAGES)
		return VM_FAULT_SIGBUS;
	ret = vmf_insert_pfn(vmf->vma, address, vmalloc_to_pfn(memory + (vmf->pgoff << PAGE_SHIFT)));
	return ret;
}

static const struct vm_operations_struct my_vm_ops = { .fault = my_fault };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff > PAGES || vma_pages(vma) > PAGES - vma->vm_pgoff)
		return -EINVAL;
	vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = &my_vm_ops;
	return 0;
}

static int my_setup(void)
{
	memory = vzalloc(PAGES * PAGE_SIZE);
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

EXHIBIT("insert-failed", my_setup, my_teardown);
