// SPDX-License-Identifier: GPL-2.0
/* As pfn_flag_missing.c, with vmf_insert_pfn, which does not return an error but stops the thread: BUG_ON. */
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
	/* Wrong: vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP) is missing. */
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

EXHIBIT("pfn-flag-bug", my_setup, my_teardown);
