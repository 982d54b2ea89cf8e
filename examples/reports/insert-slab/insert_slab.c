// SPDX-License-Identifier: GPL-2.0
/* vm_insert_page of what kmalloc returned. */
#include "report.h"

static char *memory;

static int get_memory(void)
{
	memory = kzalloc(2048, GFP_KERNEL);
	return memory ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	kfree(memory);
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* Wrong: pages of the slab allocator are not to be inserted. */
	return vm_insert_page(vma, vma->vm_start, virt_to_page(memory));
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-insert-slab", get_memory, put_memory);
