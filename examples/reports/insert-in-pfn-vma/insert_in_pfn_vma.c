// SPDX-License-Identifier: GPL-2.0
/* Inserts pages where frames go by number. */
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

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* Wrong: vm_insert_page is for VMAs without it. */
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND);
	return vm_insert_page(vma, vma->vm_start, virt_to_page((void *)memory));
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-insert-in-pfn-vma", get_memory, put_memory);
