// SPDX-License-Identifier: GPL-2.0
/* An offset that nobody checks. */
#include "report.h"

#define PAGES 4

static char *memory;
/* For the program, which looks for a frame behind it. */
static unsigned long first;
module_param(first, ulong, 0444);

static int get_memory(void)
{
	memory = (char *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 2);
	if (!memory)
		return -ENOMEM;
	first = virt_to_phys(memory) >> PAGE_SHIFT;
	return 0;
}

static void put_memory(void)
{
	free_pages((unsigned long)memory, 2);
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* Wrong: nothing is compared with the buffer's size, so any memory can be had. */
	return remap_pfn_range(vma, vma->vm_start, (virt_to_phys(memory) >> PAGE_SHIFT) + vma->vm_pgoff,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-offset-unchecked", get_memory, put_memory);
