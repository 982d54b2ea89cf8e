// SPDX-License-Identifier: GPL-2.0
/* A fault handler that takes no reference. */
#include "report.h"

static struct page *page;

static int get_memory(void)
{
	page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	return page ? 0 : -ENOMEM;
}

static void put_memory(void)
{
}

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	/* Wrong: without get_page. */
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct my_ops = { .fault = my_fault };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &my_ops;
	return 0;
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-no-get-page", get_memory, put_memory);
