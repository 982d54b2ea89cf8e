// SPDX-License-Identifier: GPL-2.0
/*
 * A dma-buf exporter with mmap: memory that other drivers can take, and that programs can map.
 *
 * Every open of /dev/dma_buf_exporter is a buffer of 64 KiB; MY_EXPORT gives a descriptor of it. Both can be mapped, and
 * a mapping holds the buffer, not the node. read and write are the kernel's view of the same bytes.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/iosys-map.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

#include "dma_buf_exporter.h"

#define PAGES 16
#define BYTES (PAGES * PAGE_SIZE)

struct my_buffer {
	struct page *pages[PAGES];
	/* The same pages at one address of the kernel's. */
	void *view;
	/* Guards devices: those that have the buffer mapped now. */
	struct mutex lock;
	struct list_head devices;
};

struct my_device_mapping {
	struct list_head entry;
	struct device *device;
	enum dma_data_direction direction;
	struct sg_table table;
};

static void my_free(struct my_buffer *buffer)
{
	int i;

	vunmap(buffer->view);
	for (i = 0; i < PAGES && buffer->pages[i]; i++)
		put_page(buffer->pages[i]);
	kfree(buffer);
}

static struct my_buffer *my_alloc(void)
{
	struct my_buffer *buffer = kzalloc(sizeof(*buffer), GFP_KERNEL_ACCOUNT);
	int i;

	if (!buffer)
		return NULL;
	mutex_init(&buffer->lock);
	INIT_LIST_HEAD(&buffer->devices);
	for (i = 0; i < PAGES; i++) {
		/* Zeroed, and charged to the memory cgroup of whoever opens. */
		buffer->pages[i] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!buffer->pages[i])
			goto fail;
	}
	buffer->view = vmap(buffer->pages, PAGES, VM_MAP, PAGE_KERNEL);
	if (buffer->view)
		return buffer;
fail:
	my_free(buffer);
	return NULL;
}

/* The last descriptor, mapping and attachment are gone. */
static void my_release_buffer(struct dma_buf *dmabuf)
{
	my_free(dmabuf->priv);
}

static struct sg_table *my_map(struct dma_buf_attachment *attachment, enum dma_data_direction direction)
{
	struct my_buffer *buffer = attachment->dmabuf->priv;
	struct my_device_mapping *mapping = kzalloc(sizeof(*mapping), GFP_KERNEL);
	int err;

	if (!mapping)
		return ERR_PTR(-ENOMEM);
	/* A table of its own for each device: their DMA addresses differ. */
	err = sg_alloc_table_from_pages(&mapping->table, buffer->pages, PAGES, 0, BYTES, GFP_KERNEL);
	if (err)
		goto free;
	err = dma_map_sgtable(attachment->dev, &mapping->table, direction, 0);
	if (err)
		goto free_table;
	mapping->device = attachment->dev;
	mapping->direction = direction;
	mutex_lock(&buffer->lock);
	list_add(&mapping->entry, &buffer->devices);
	mutex_unlock(&buffer->lock);
	return &mapping->table;
free_table:
	sg_free_table(&mapping->table);
free:
	kfree(mapping);
	return ERR_PTR(err);
}

static void my_unmap(struct dma_buf_attachment *attachment, struct sg_table *table, enum dma_data_direction direction)
{
	struct my_device_mapping *mapping = container_of(table, struct my_device_mapping, table);
	struct my_buffer *buffer = attachment->dmabuf->priv;

	mutex_lock(&buffer->lock);
	list_del(&mapping->entry);
	mutex_unlock(&buffer->lock);
	dma_unmap_sgtable(attachment->dev, table, direction, 0);
	sg_free_table(table);
	kfree(mapping);
}

/*
 * DMA_BUF_IOCTL_SYNC: on machines whose devices do not see the caches, what a program reads is stale without it. A table is synced
 * in the direction that it was mapped in (Documentation/core-api/dma-api.rst), whatever the program is going to do.
 */
static int my_begin_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	struct my_buffer *buffer = dmabuf->priv;
	struct my_device_mapping *mapping;

	mutex_lock(&buffer->lock);
	invalidate_kernel_vmap_range(buffer->view, BYTES);
	list_for_each_entry(mapping, &buffer->devices, entry)
		dma_sync_sgtable_for_cpu(mapping->device, &mapping->table, mapping->direction);
	mutex_unlock(&buffer->lock);
	return 0;
}

static int my_end_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	struct my_buffer *buffer = dmabuf->priv;
	struct my_device_mapping *mapping;

	mutex_lock(&buffer->lock);
	flush_kernel_vmap_range(buffer->view, BYTES);
	list_for_each_entry(mapping, &buffer->devices, entry)
		dma_sync_sgtable_for_device(mapping->device, &mapping->table, mapping->direction);
	mutex_unlock(&buffer->lock);
	return 0;
}

static int my_mmap_buffer(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct my_buffer *buffer = dmabuf->priv;

	vm_flags_set(vma, VM_DONTEXPAND);
	/* It compares offset and length with the array. Copy-on-write needs no care: the kernel copies pages. */
	return vm_map_pages(vma, buffer->pages, PAGES);
}

/* For drivers that read or write by the processor. */
static int my_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct my_buffer *buffer = dmabuf->priv;

	iosys_map_set_vaddr(map, buffer->view);
	return 0;
}

static const struct dma_buf_ops my_ops = {
	.map_dma_buf = my_map,
	.unmap_dma_buf = my_unmap,
	.begin_cpu_access = my_begin_cpu_access,
	.end_cpu_access = my_end_cpu_access,
	.mmap = my_mmap_buffer,
	.vmap = my_vmap,
	.release = my_release_buffer,
};

static int my_open(struct inode *inode, struct file *file)
{
	/* Its owner is this module, which a descriptor or a mapping keeps when the node is long closed. */
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct dma_buf *dmabuf;

	info.priv = my_alloc();
	if (!info.priv)
		return -ENOMEM;
	info.ops = &my_ops;
	info.size = BYTES;
	/* What the node was not opened for, a descriptor of the buffer does not allow either. */
	info.flags = file->f_flags & O_ACCMODE;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		my_free(info.priv);
		return PTR_ERR(dmabuf);
	}
	file->private_data = dmabuf;
	return 0;
}

static int my_release(struct inode *inode, struct file *file)
{
	dma_buf_put(file->private_data);
	return 0;
}

static long my_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct dma_buf *dmabuf = file->private_data;
	int fd;

	if (command != MY_EXPORT)
		return -ENOTTY;
	/* The descriptor's reference; another thread may close it before this returns. */
	get_dma_buf(dmabuf);
	fd = dma_buf_fd(dmabuf, O_CLOEXEC);
	if (fd < 0)
		dma_buf_put(dmabuf);
	return fd;
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* Compares offset and length, and has the mapping hold the buffer instead of the node. */
	return dma_buf_mmap(file->private_data, vma, vma->vm_pgoff);
}

static ssize_t my_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	struct dma_buf *dmabuf = file->private_data;
	struct my_buffer *buffer = dmabuf->priv;

	return simple_read_from_buffer(to, count, at, buffer->view, BYTES);
}

static ssize_t my_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	struct dma_buf *dmabuf = file->private_data;
	struct my_buffer *buffer = dmabuf->priv;

	return simple_write_to_buffer(buffer->view, BYTES, at, from, count);
}

static const struct file_operations my_fops = {
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

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("DMA_BUF");
#else
MODULE_IMPORT_NS(DMA_BUF);
#endif
MODULE_DESCRIPTION("a dma-buf exporter with mmap");
MODULE_LICENSE("GPL");
