// SPDX-License-Identifier: GPL-2.0
/* A fault handler that returns an error number. */
#include "report.h"

static int get_memory(void)
{
	return 0;
}

static void put_memory(void)
{
}

static vm_fault_t my_fault(struct vm_fault *vmf)
{
	/* Wrong: a fault handler says VM_FAULT_…, not an error number. */
	return (__force vm_fault_t)-ENOMEM;
}

static const struct vm_operations_struct my_ops = { .fault = my_fault };

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &my_ops;
	return 0;
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-errno-as-fault-enomem", get_memory, put_memory);
