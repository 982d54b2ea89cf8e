// SPDX-License-Identifier: GPL-2.0
/*
 * dma_mmap_coherent: DMA-coherent memory behind an ioctl, mapped by its id: mmap(..., fd, id << PAGE_SHIFT).
 *
 * The ids belong to the open file. A buffer lives until its id and its last mapping are gone, in whichever order.
 * pread and pwrite are the kernel's view, at the offset (id << 32) + byte.
 */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "dma_mmap_coherent.h"

#define MAX_BYTES (4UL << 20)
/* No program can take more than 16 * 4 MiB for each file that it may open. */
#define IDS XA_LIMIT(1, 16)

struct my_buffer {
	/* One for the id, one for each VMA, one for each read or write. */
	refcount_t refs;
	size_t bytes;
	void *memory;
	/* What the device is told. No physical address: behind an IOMMU it is something else. */
	dma_addr_t dma;
};

/* The node's device does the DMA here. A driver of a real one has it from probe. */
static struct miscdevice my_node;

static void my_put(struct my_buffer *buffer)
{
	if (!refcount_dec_and_test(&buffer->refs))
		return;
	/* Does nothing for NULL, as kfree. */
	dma_free_coherent(my_node.this_device, buffer->bytes, buffer->memory, buffer->dma);
	kfree(buffer);
}
DEFINE_FREE(my_put, struct my_buffer *, if (_T) my_put(_T))

/* With a reference: between the look and the use another thread may free the id. */
static struct my_buffer *my_find(struct file *file, unsigned long id)
{
	struct xarray *ids = file->private_data;
	struct my_buffer *buffer;

	xa_lock(ids);
	buffer = xa_load(ids, id);
	if (buffer)
		refcount_inc(&buffer->refs);
	xa_unlock(ids);
	return buffer;
}

static long my_alloc(struct file *file, const struct my_alloc __user *argument)
{
	struct my_alloc alloc;
	u32 id;
	int err;

	if (copy_from_user(&alloc, argument, sizeof(alloc)))
		return -EFAULT;
	/* The bound first: rounding up could wrap. */
	if (!alloc.bytes || alloc.bytes > MAX_BYTES || alloc.flags)
		return -EINVAL;

	struct my_buffer *buffer __free(my_put) = kzalloc(sizeof(*buffer), GFP_KERNEL_ACCOUNT);

	if (!buffer)
		return -ENOMEM;
	refcount_set(&buffer->refs, 1);
	buffer->bytes = PAGE_ALIGN(alloc.bytes);
	/* Always zeroed. The size is the user's: an error if there is no such run, not a warning. */
	buffer->memory = dma_alloc_coherent(my_node.this_device, buffer->bytes, &buffer->dma, GFP_KERNEL | __GFP_NOWARN);
	if (!buffer->memory)
		return -ENOMEM;
	err = xa_alloc(file->private_data, &id, buffer, IDS, GFP_KERNEL_ACCOUNT);
	if (err)
		return err;
	/* The reference is the table's now. Another thread may have guessed the id and freed it already. */
	buffer = NULL;
	return id;
}

static long my_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct my_buffer *buffer;

	switch (command) {
	case MY_ALLOC:
		return my_alloc(file, (void __user *)argument);
	case MY_FREE:
		buffer = xa_erase(file->private_data, argument);
		if (!buffer)
			return -ENOENT;
		/* Mappings have references of their own. */
		my_put(buffer);
		return 0;
	default:
		return -ENOTTY;
	}
}

/* A fork, a split and a move make another VMA of the same buffer. */
static void my_vma_open(struct vm_area_struct *vma)
{
	struct my_buffer *buffer = vma->vm_private_data;

	refcount_inc(&buffer->refs);
}

static void my_vma_close(struct vm_area_struct *vma)
{
	my_put(vma->vm_private_data);
}

static const struct vm_operations_struct my_vm_ops = {
	.open = my_vma_open,
	.close = my_vma_close,
};

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct my_buffer *buffer __free(my_put) = my_find(file, vma->vm_pgoff);
	int err;

	if (!buffer)
		return -ENOENT;
	/* As in remap_pfn_range.c: no copy-on-write of frames. */
	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE) {
		if (vma->vm_flags & VM_WRITE)
			return -EINVAL;
		vm_flags_clear(vma, VM_MAYWRITE);
	}
	/*
	 * For dma_mmap_coherent vm_pgoff is an offset in the buffer: an id left there is -ENXIO, or the wrong part. It
	 * compares offset and length with the size by itself, and knows the page protection that the device needs.
	 */
	vma->vm_pgoff = 0;
	err = dma_mmap_coherent(my_node.this_device, vma, buffer->memory, buffer->dma, buffer->bytes);
	if (err)
		return err;
	/* Only now: there is no close for a mapping that failed. */
	vma->vm_private_data = no_free_ptr(buffer);
	vma->vm_ops = &my_vm_ops;
	return 0;
}

static ssize_t my_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	struct my_buffer *buffer __free(my_put) = my_find(file, upper_32_bits(*at));
	loff_t byte = lower_32_bits(*at);

	if (!buffer)
		return -ENOENT;
	return simple_read_from_buffer(to, count, &byte, buffer->memory, buffer->bytes);
}

static ssize_t my_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	struct my_buffer *buffer __free(my_put) = my_find(file, upper_32_bits(*at));
	loff_t byte = lower_32_bits(*at);

	if (!buffer)
		return -ENOENT;
	return simple_write_to_buffer(buffer->memory, buffer->bytes, &byte, from, count);
}

static int my_open(struct inode *inode, struct file *file)
{
	struct xarray *ids;
	int err;

	/* The addresses that the device can reach. Not after misc_register: the node may be open before that returns. */
	err = dma_coerce_mask_and_coherent(my_node.this_device, DMA_BIT_MASK(64));
	if (err)
		return err;
	ids = kzalloc(sizeof(*ids), GFP_KERNEL_ACCOUNT);
	if (!ids)
		return -ENOMEM;
	/* From 1 on: the offset 0, which programs map when they have forgotten theirs, is no buffer. */
	xa_init_flags(ids, XA_FLAGS_ALLOC1);
	file->private_data = ids;
	return 0;
}

static int my_release(struct inode *inode, struct file *file)
{
	struct xarray *ids = file->private_data;
	struct my_buffer *buffer;
	unsigned long id;

	xa_for_each(ids, id, buffer)
		my_put(buffer);
	xa_destroy(ids);
	kfree(ids);
	return 0;
}

static const struct file_operations my_fops = {
	/* An open file, and so a mapping, keeps the module. */
	.owner = THIS_MODULE,
	.open = my_open,
	.release = my_release,
	.unlocked_ioctl = my_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
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

MODULE_DESCRIPTION("mmap by dma_mmap_coherent, of buffers that an ioctl allocates");
MODULE_LICENSE("GPL");
