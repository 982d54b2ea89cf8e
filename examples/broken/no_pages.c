// SPDX-License-Identifier: GPL-2.0
/* Right as far as it goes; but mapped by frame number, RAM is of no use to O_DIRECT or process_vm_readv. */
#include "museum.h"

static unsigned long memory;

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	int err;

	if (vma->vm_pgoff || vma->vm_end - vma->vm_start != PAGE_SIZE)
		return -EINVAL;
	/* Wrong for such programs: vm_insert_page would give them pages. */
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

EXHIBIT("no-pages", my_setup, my_teardown);
