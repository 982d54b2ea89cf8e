// SPDX-License-Identifier: GPL-2.0
/* A fault handler that inserts a page and returns 0. */
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
	if (vm_insert_page(vmf->vma, vmf->address, page))
		return VM_FAULT_SIGBUS;
	/* Wrong: 0 means that vmf->page has the page. */
	return 0;
}

static const struct vm_operations_struct my_ops = { .fault = my_fault };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_MIXEDMAP);
	vma->vm_ops = &my_ops;
	return 0;
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-no-page-set", get_memory, put_memory);
