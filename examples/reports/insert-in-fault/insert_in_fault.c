// SPDX-License-Identifier: GPL-2.0
/* A fault handler that inserts a page by vm_insert_page. */
#include "report.h"

static unsigned long memory;

static int get_memory(void)
{
	memory = __get_free_page(GFP_KERNEL | __GFP_ZERO);
	return memory ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	free_page(memory);
}

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	/* Wrong: my_mmap did not set VM_MIXEDMAP, and here it cannot be set. */
	if (vm_insert_page(vmf->vma, vmf->address, virt_to_page((void *)memory)))
		return VM_FAULT_SIGBUS;
	return VM_FAULT_NOPAGE;
}

static const struct vm_operations_struct my_ops = { .fault = my_fault };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &my_ops;
	return 0;
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-insert-in-fault", get_memory, put_memory);
