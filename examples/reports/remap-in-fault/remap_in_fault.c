// SPDX-License-Identifier: GPL-2.0
/* A fault handler that maps all of the VMA at once. */
#include "report.h"

static unsigned long memory;

static int get_memory(void)
{
	memory = __get_free_pages(GFP_KERNEL | __GFP_ZERO, 1);
	return memory ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	free_pages(memory, 1);
}

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;

	/* Wrong: this changes the VMA's flags, and the mmap lock is not held for writing. */
	if (remap_pfn_range(vma, vma->vm_start, virt_to_phys((void *)memory) >> PAGE_SHIFT,
			    2 * PAGE_SIZE, vma->vm_page_prot))
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

REPORT("report-remap-in-fault", get_memory, put_memory);
