// SPDX-License-Identifier: GPL-2.0
/* Frames are inserted at fault time into a private mapping that may become writable: BUG_ON, there is no page to copy. */
#include "museum.h"

static unsigned long memory;

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	vm_fault_t ret = vmf_insert_pfn(vmf->vma, vmf->address, virt_to_phys((void *)memory) >> PAGE_SHIFT);

	return ret;
}

static const struct vm_operations_struct my_vm_ops = { .fault = my_fault };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* Wrong: copy-on-write mappings must be refused here, or VM_MAYWRITE cleared. */
	vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = &my_vm_ops;
	return 0;
}

static int my_setup(void)
{
	memory = get_zeroed_page(GFP_KERNEL);
	return memory ? 0 : -ENOMEM;
}

static void my_teardown(void)
{
	free_page(memory);
}

static const struct file_operations exhibit_fops = {
	.owner = THIS_MODULE,
	.mmap = my_mmap,
};

EXHIBIT("cow-at-fault", my_setup, my_teardown);
