// SPDX-License-Identifier: GPL-2.0
/*
 * dma_mmap_coherent: DMA-coherent memory behind an ioctl, mapped by its id: mmap(..., fd, id << PAGE_SHIFT).
 *
 * The ids belong to the open file. A buffer lives until its id and its last mapping are gone, in whichever order.
 * pread and pwrite are the kernel's view, at the offset (id << 32) + byte.
 */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "dma_mmap_coherent.h"

#define MAX_BYTES (4UL << 20)
/* No program can take more than 16 * 4 MiB for each file that it may open. */
#define IDS XA_LIMIT(1, 16)

struct my_buffer {
	/* One for the id, one for each VMA, one for each read or write. */
	struct kref refs;
	size_t bytes;
	void *memory;
	/* What the device is told. No physical address: behind an IOMMU it is something else. */
	dma_addr_t dma;
};

/* The device that does the DMA. A driver of a real one has it from probe. */
static struct platform_device *device;

static void my_free(struct kref *refs)
{
	struct my_buffer *buffer = container_of(refs, struct my_buffer, refs);

	dma_free_coherent(&device->dev, buffer->bytes, buffer->memory, buffer->dma);
	kfree(buffer);
}

static void my_put(struct my_buffer *buffer)
{
	kref_put(&buffer->refs, my_free);
}

/* With a reference: between the look and the use another thread may free the id. */
static struct my_buffer *my_find(struct file *file, unsigned long id)
{
	struct xarray *ids = file->private_data;
	struct my_buffer *buffer;

	xa_lock(ids);
	buffer = xa_load(ids, id);
	if (buffer)
		kref_get(&buffer->refs);
	xa_unlock(ids);
	return buffer;
}

static int my_alloc(struct file *file, struct my_alloc __user *argument)
{
	struct xarray *ids = file->private_data;
	struct my_buffer *buffer;
	struct my_alloc alloc;
	int err;

	if (copy_from_user(&alloc, argument, sizeof(alloc)))
		return -EFAULT;
	/* The bound first: rounding up could wrap. */
	if (!alloc.bytes || alloc.bytes > MAX_BYTES || alloc.flags)
		return -EINVAL;
	buffer = kzalloc(sizeof(*buffer), GFP_KERNEL_ACCOUNT);
	if (!buffer)
		return -ENOMEM;
	kref_init(&buffer->refs);
	buffer->bytes = PAGE_ALIGN(alloc.bytes);
	/* Always zeroed. The size is the user's: an error if there is no such run, not a warning. */
	buffer->memory = dma_alloc_coherent(&device->dev, buffer->bytes, &buffer->dma, GFP_KERNEL | __GFP_NOWARN);
	if (!buffer->memory) {
		kfree(buffer);
		return -ENOMEM;
	}
	err = xa_alloc(ids, &alloc.id, buffer, IDS, GFP_KERNEL_ACCOUNT);
	if (err) {
		my_put(buffer);
		return err;
	}
	if (!copy_to_user(argument, &alloc, sizeof(alloc)))
		return 0;
	/* Another thread may have guessed the id and freed it: who takes it out of the table has its reference. */
	buffer = xa_erase(ids, alloc.id);
	if (buffer)
		my_put(buffer);
	return -EFAULT;
}

static long my_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct my_buffer *buffer;

	switch (command) {
	case MY_ALLOC:
		return my_alloc(file, (struct my_alloc __user *)argument);
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

	kref_get(&buffer->refs);
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
	struct my_buffer *buffer;
	int err;

	/* As in remap_pfn_range.c: no copy-on-write of frames. */
	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE) {
		if (vma->vm_flags & VM_WRITE)
			return -EINVAL;
		vm_flags_clear(vma, VM_MAYWRITE);
	}
	buffer = my_find(file, vma->vm_pgoff);
	if (!buffer)
		return -ENOENT;
	/*
	 * For dma_mmap_coherent vm_pgoff is an offset in the buffer: an id left there is -ENXIO, or the wrong part. It
	 * compares offset and length with the size by itself, and knows the page protection that the device needs.
	 */
	vma->vm_pgoff = 0;
	err = dma_mmap_coherent(&device->dev, vma, buffer->memory, buffer->dma, buffer->bytes);
	if (err) {
		/* There will be no close for a mapping that failed. */
		my_put(buffer);
		return err;
	}
	vma->vm_private_data = buffer;
	vma->vm_ops = &my_vm_ops;
	return 0;
}

static ssize_t my_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	struct my_buffer *buffer = my_find(file, upper_32_bits(*at));
	loff_t byte = lower_32_bits(*at);
	ssize_t done;

	if (!buffer)
		return -ENOENT;
	done = simple_read_from_buffer(to, count, &byte, buffer->memory, buffer->bytes);
	my_put(buffer);
	return done;
}

static ssize_t my_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	struct my_buffer *buffer = my_find(file, upper_32_bits(*at));
	loff_t byte = lower_32_bits(*at);
	ssize_t done;

	if (!buffer)
		return -ENOENT;
	done = simple_write_to_buffer(buffer->memory, buffer->bytes, &byte, from, count);
	my_put(buffer);
	return done;
}

static int my_open(struct inode *inode, struct file *file)
{
	struct xarray *ids = kzalloc(sizeof(*ids), GFP_KERNEL_ACCOUNT);

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

static int __init my_init(void)
{
	int err;

	device = platform_device_register_simple(KBUILD_MODNAME, PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(device))
		return PTR_ERR(device);
	/* The addresses that the device can reach. */
	err = dma_set_mask_and_coherent(&device->dev, DMA_BIT_MASK(64));
	if (!err)
		err = misc_register(&my_node);
	if (err)
		platform_device_unregister(device);
	return err;
}

static void __exit my_exit(void)
{
	misc_deregister(&my_node);
	platform_device_unregister(device);
}

module_init(my_init);
module_exit(my_exit);

MODULE_DESCRIPTION("mmap by dma_mmap_coherent, of buffers that an ioctl allocates");
MODULE_LICENSE("GPL");
