// SPDX-License-Identifier: GPL-2.0
/*
 * vm_map_pages: an array of pages that is the whole object, offset and length checked by the kernel.
 *
 * Every open of /dev/vm_map_pages has 64 KiB of its own, here a physically contiguous run that is mapped as pages: a
 * device can be given it as one piece, and it can be pinned. read and write are the kernel's view of the same bytes.
 */
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

#define PAGES 16
#define BYTES (PAGES * PAGE_SIZE)

static int my_open(struct inode *inode, struct file *file)
{
	/*
	 * Zeroed, and charged to the memory cgroup of whoever opens. alloc_pages_exact splits what it takes into single
	 * pages, each with a count of its own; the tails of alloc_pages(gfp, order) have none, and cannot be mapped.
	 */
	file->private_data = alloc_pages_exact(BYTES, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	return file->private_data ? 0 : -ENOMEM;
}

static int my_release(struct inode *inode, struct file *file)
{
	/* Page by page, and only our reference: who has pinned a page keeps it. */
	free_pages_exact(file->private_data, BYTES);
	return 0;
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct page *pages[PAGES];
	int i;

	for (i = 0; i < PAGES; i++)
		pages[i] = virt_to_page(file->private_data + i * PAGE_SIZE);

	/* Else mremap makes the mapping longer than the buffer. */
	vm_flags_set(vma, VM_DONTEXPAND);

	/*
	 * It maps from vm_pgoff on, and is -ENXIO for an offset or a length beyond the array: vm_pgoff must be an offset
	 * in the object, never an id (dma_mmap_coherent.c shows what to do with an id). Copy-on-write needs no care:
	 * there are pages, so the kernel can copy them.
	 */
	return vm_map_pages(vma, pages, PAGES);
}

static ssize_t my_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	return simple_read_from_buffer(to, count, at, file->private_data, BYTES);
}

static ssize_t my_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	return simple_write_to_buffer(file->private_data, BYTES, at, from, count);
}

static const struct file_operations my_fops = {
	/* An open file, and so a mapping, keeps the module. */
	.owner = THIS_MODULE,
	.open = my_open,
	.release = my_release,
	.mmap = my_mmap,
	.read = my_read,
	.write = my_write,
};

static struct miscdevice my_node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &my_fops,
};
module_misc_device(my_node);

MODULE_DESCRIPTION("mmap by vm_map_pages");
MODULE_LICENSE("GPL");
