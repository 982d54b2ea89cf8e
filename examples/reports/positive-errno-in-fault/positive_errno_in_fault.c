// SPDX-License-Identifier: GPL-2.0
/* A fault handler that returns an error number without its minus. */
#include "report.h"

#define PAGES 4

static char *memory;

static int get_memory(void)
{
	memory = (char *)__get_free_pages(GFP_KERNEL | __GFP_ZERO | __GFP_COMP, 2);
	return memory ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	free_pages((unsigned long)memory, 2);
}

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	if (vmf->pgoff >= 2)
		return (__force vm_fault_t)EINVAL; /* Wrong: VM_FAULT_SIGBUS. */
	vmf->page = virt_to_page(memory + (vmf->pgoff << PAGE_SHIFT));
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct my_ops = { .fault = my_fault };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &my_ops;
	return 0;
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-positive-errno-in-fault", get_memory, put_memory);
