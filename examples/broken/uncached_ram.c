// SPDX-License-Identifier: GPL-2.0
/* Ordinary memory, mapped with an uncached protection "to be on the safe side". */
#include "museum.h"

static unsigned long memory;

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	int err;

	if (vma->vm_pgoff || vma->vm_end - vma->vm_start != PAGE_SIZE)
		return -EINVAL;
	/* Wrong: RAM is cached, in the kernel's own view of it too. */
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	err = remap_pfn_range(vma, vma->vm_start, virt_to_phys((void *)memory) >> PAGE_SHIFT, PAGE_SIZE,
			      vma->vm_page_prot);
	return err;
}

static int my_setup(void)
{
	memory = get_zeroed_page(GFP_KERNEL);
	return memory ? 0 : -ENOMEM;
}

static void my_teardown(void)
{
	free_page(memory);
}

static const struct file_operations exhibit_fops = {
	.owner = THIS_MODULE,
	.mmap = my_mmap,
};

EXHIBIT("uncached-ram", my_setup, my_teardown);
