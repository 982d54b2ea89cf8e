// SPDX-License-Identifier: GPL-2.0
/* mmap of a file that debugfs_create_file made. */
#include "report.h"

#include <linux/debugfs.h>

static char *memory;
static struct dentry *entry;

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	return remap_pfn_range(vma, vma->vm_start, virt_to_phys(memory) >> PAGE_SHIFT, PAGE_SIZE, vma->vm_page_prot);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

static int get_memory(void)
{
	memory = (char *)get_zeroed_page(GFP_KERNEL);
	/* Wrong: the operations that debugfs puts before the driver's own have no mmap. */
	entry = debugfs_create_file("report-debugfs-mmap", 0666, NULL, NULL, &report_fops);
	return memory ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	debugfs_remove(entry);
	free_page((unsigned long)memory);
}

REPORT("report-debugfs-mmap", get_memory, put_memory);
