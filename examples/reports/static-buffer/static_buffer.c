// SPDX-License-Identifier: GPL-2.0
/* virt_to_phys of a module's static array. */
#include "report.h"

static char memory[4 * PAGE_SIZE] __aligned(PAGE_SIZE);

static int get_memory(void)
{
	memset(memory, 0x5a, sizeof(memory));
	return 0;
}

static void put_memory(void)
{
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long bytes = vma->vm_end - vma->vm_start;

	if (vma->vm_pgoff || bytes > sizeof(memory))
		return -EINVAL;
	/* Wrong: a module's own data lie in vmalloc's kind of memory. */
	return remap_pfn_range(vma, vma->vm_start, virt_to_phys(memory) >> PAGE_SHIFT, bytes, vma->vm_page_prot);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-static-buffer", get_memory, put_memory);
