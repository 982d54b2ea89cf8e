// SPDX-License-Identifier: GPL-2.0
/* An ioctl frees the buffer, mapped or not. */
#include "museum.h"

static unsigned long memory;
static DEFINE_MUTEX(lock);

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	int err = -EINVAL;

	mutex_lock(&lock);
	if (memory && !vma->vm_pgoff && vma->vm_end - vma->vm_start == PAGE_SIZE)
		err = remap_pfn_range(vma, vma->vm_start, virt_to_phys((void *)memory) >> PAGE_SHIFT, PAGE_SIZE,
				      vma->vm_page_prot);
	mutex_unlock(&lock);
	return err;
}

static long my_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	if (command != _IO('m', 1))
		return -ENOTTY;
	mutex_lock(&lock);
	/* Wrong: nobody counts the mappings, and remap_pfn_range takes no reference. */
	free_page(memory);
	memory = 0;
	mutex_unlock(&lock);
	return 0;
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
	.unlocked_ioctl = my_ioctl,
};

EXHIBIT("outlived", my_setup, my_teardown);
