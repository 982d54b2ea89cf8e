// SPDX-License-Identifier: GPL-2.0
/* A fault handler that inserts at the mapping's start each time. */
#include "report.h"

static struct page *page;

static int get_memory(void)
{
	page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	return page ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	__free_page(page);
}

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	/* Wrong: it is vmf->address; where there is an entry already, vm_insert_page says EBUSY. */
	if (vm_insert_page(vmf->vma, vmf->vma->vm_start, page))
		return VM_FAULT_SIGBUS;
	return VM_FAULT_NOPAGE;
}

static const struct vm_operations_struct my_ops = { .fault = my_fault };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_MIXEDMAP);
	vma->vm_ops = &my_ops;
	return 0;
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-busy-in-handler", get_memory, put_memory);
