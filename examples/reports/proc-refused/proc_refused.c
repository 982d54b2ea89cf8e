// SPDX-License-Identifier: GPL-2.0
/* A driver whose file is in /proc. */
#include "report.h"

#include <linux/proc_fs.h>

static char *memory;
static struct proc_dir_entry *entry;

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_end - vma->vm_start > PAGE_SIZE)
		return -EINVAL;
	return remap_pfn_range(vma, vma->vm_start, virt_to_phys(memory) >> PAGE_SHIFT, PAGE_SIZE, vma->vm_page_prot);
}

static const struct proc_ops my_ops = { .proc_mmap = my_mmap };
static const struct file_operations report_fops = { .owner = THIS_MODULE };

static int get_memory(void)
{
	memory = (char *)get_zeroed_page(GFP_KERNEL);
	entry = proc_create("report-proc-refused", 0666, NULL, &my_ops);
	return memory && entry ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	proc_remove(entry);
	free_page((unsigned long)memory);
}

REPORT("report-proc-refused", get_memory, put_memory);
