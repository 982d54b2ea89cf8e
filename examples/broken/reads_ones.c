// SPDX-License-Identifier: GPL-2.0
/* A device's memory that reads 0xff and drops writes, as a device does that is asleep, held in reset, or gone. */
#include "museum.h"

static unsigned long address;
module_param(address, ulong, 0444);
MODULE_PARM_DESC(address, "the physical address of such memory");

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	/* Wrong: nobody asked the device for a sign of life (a register with a known value) before handing it out. */
	return vm_iomap_memory(vma, address, 16 * PAGE_SIZE);
}

static int my_setup(void)
{
	return address ? 0 : -ENODEV;
}

static void my_teardown(void)
{
}

static const struct file_operations exhibit_fops = {
	.owner = THIS_MODULE,
	.mmap = my_mmap,
};

EXHIBIT("reads-ones", my_setup, my_teardown);
