// SPDX-License-Identifier: GPL-2.0
/* Question A's puzzle: a physical range that nothing answers maps without a word. */
#include "museum.h"

static unsigned long address = 0x7f00000000;
module_param(address, ulong, 0444);
MODULE_PARM_DESC(address, "a physical address with nothing there");

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	int err;

	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	/* Wrong: nobody asked whether there is anything (request_mem_region, and a look at what is read). */
	err = remap_pfn_range(vma, vma->vm_start, address >> PAGE_SHIFT, vma->vm_end - vma->vm_start,
			      vma->vm_page_prot);
	return err;
}

static int my_setup(void)
{
	return 0;
}

static void my_teardown(void)
{
}

static const struct file_operations exhibit_fops = {
	.owner = THIS_MODULE,
	.mmap = my_mmap,
};

EXHIBIT("nothing-behind", my_setup, my_teardown);
