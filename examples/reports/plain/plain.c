// SPDX-License-Identifier: GPL-2.0
/* A driver that is right: four pages, mapped whole or in part; an ioctl that fails, as asked. */
#include "report.h"

#define PAGES 4

static char *memory;

static int get_memory(void)
{
	memory = (char *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 2);
	return memory ? 0 : -ENOMEM;
}

static void put_memory(void)
{
	free_pages((unsigned long)memory, 2);
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long pages = vma_pages(vma);

	if (vma->vm_pgoff >= PAGES || pages > PAGES - vma->vm_pgoff)
		return -EINVAL;
	return remap_pfn_range(vma, vma->vm_start, (virt_to_phys(memory) >> PAGE_SHIFT) + vma->vm_pgoff,
			       pages << PAGE_SHIFT, vma->vm_page_prot);
}

static long my_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	return -ENOSPC;
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap, .unlocked_ioctl = my_ioctl };

REPORT("report-plain", get_memory, put_memory);
