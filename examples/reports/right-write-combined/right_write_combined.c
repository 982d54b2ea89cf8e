// SPDX-License-Identifier: GPL-2.0
/* A driver that is right: its memory is write-combined in the kernel's own mapping, and so in the program's. */
#include <linux/mm.h>
#include <linux/set_memory.h>
#include "report.h"

#define PAGES 4

static char *memory;

static int get_memory(void)
{
	int err;

	memory = (char *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 2);
	if (!memory)
		return -ENOMEM;
	err = set_memory_wc((unsigned long)memory, PAGES);
	if (err)
		free_pages((unsigned long)memory, 2);
	return err;
}

static void put_memory(void)
{
	set_memory_wb((unsigned long)memory, PAGES);
	free_pages((unsigned long)memory, 2);
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff || vma_pages(vma) > PAGES)
		return -EINVAL;
	vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
	return remap_pfn_range(vma, vma->vm_start, virt_to_phys(memory) >> PAGE_SHIFT,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-right-write-combined", get_memory, put_memory);
