// SPDX-License-Identifier: GPL-2.0
/*
 * A dma-buf exporter with mmap: memory that other drivers can take, and that programs can map.
 *
 * Every open of /dev/dma_buf_exporter is a buffer of 64 KiB; MY_EXPORT gives a descriptor of it. Both can be mapped, and
 * a mapping holds the buffer, not the node. read and write are the kernel's view of the same bytes.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dma_buf_exporter.h"

#define PAGES 16
#define BYTES (PAGES * PAGE_SIZE)

/*
 * A device gets its addresses when it attaches and keeps them until it detaches, however often it maps the buffer meanwhile.
 * So whoever is on the core's list of attachments has a table, and the list needs no lock but the core's.
 */
static int my_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment)
{
	struct sg_table *table = kzalloc(sizeof(*table), GFP_KERNEL);
	struct page *pages[PAGES];
	int i, err;

	if (!table)
		return -ENOMEM;
	for (i = 0; i < PAGES; i++)
		pages[i] = vmalloc_to_page(dmabuf->priv + i * PAGE_SIZE);
	/* A table of its own for each device: their DMA addresses differ. */
	err = sg_alloc_table_from_pages(table, pages, PAGES, 0, BYTES, GFP_KERNEL);
	if (!err)
		err = dma_map_sgtable(attachment->dev, table, DMA_BIDIRECTIONAL, 0);
	if (err) {
		/* Does nothing if there is none. */
		sg_free_table(table);
		kfree(table);
		return err;
	}
	attachment->priv = table;
	return 0;
}

static void my_detach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment)
{
	struct sg_table *table = attachment->priv;

	dma_unmap_sgtable(attachment->dev, table, DMA_BIDIRECTIONAL, 0);
	sg_free_table(table);
	kfree(table);
}

static struct sg_table *my_map(struct dma_buf_attachment *attachment, enum dma_data_direction direction)
{
	return attachment->priv;
}

/* The core insists on it. */
static void my_unmap(struct dma_buf_attachment *attachment, struct sg_table *table, enum dma_data_direction direction)
{
}

/*
 * DMA_BUF_IOCTL_SYNC: on machines whose devices do not see the caches, what a program reads is stale without it. A table is
 * synced in the direction that it was mapped in (Documentation/core-api/dma-api.rst), whatever the program is going to do.
 */
static int my_begin_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	struct dma_buf_attachment *attachment;

	dma_resv_lock(dmabuf->resv, NULL);
	list_for_each_entry(attachment, &dmabuf->attachments, node)
		dma_sync_sgtable_for_cpu(attachment->dev, attachment->priv, DMA_BIDIRECTIONAL);
	dma_resv_unlock(dmabuf->resv);
	invalidate_kernel_vmap_range(dmabuf->priv, BYTES);
	return 0;
}

static int my_end_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	struct dma_buf_attachment *attachment;

	flush_kernel_vmap_range(dmabuf->priv, BYTES);
	dma_resv_lock(dmabuf->resv, NULL);
	list_for_each_entry(attachment, &dmabuf->attachments, node)
		dma_sync_sgtable_for_device(attachment->dev, attachment->priv, DMA_BIDIRECTIONAL);
	dma_resv_unlock(dmabuf->resv);
	return 0;
}

static int my_mmap_buffer(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	/* Compares offset and length, and sets VM_DONTEXPAND. Copy-on-write needs no care: the kernel copies pages. */
	return remap_vmalloc_range(vma, dmabuf->priv, vma->vm_pgoff);
}

/* The last descriptor, mapping and attachment are gone. */
static void my_release_buffer(struct dma_buf *dmabuf)
{
	vfree(dmabuf->priv);
}

static const struct dma_buf_ops my_ops = {
	.attach = my_attach,
	.detach = my_detach,
	.map_dma_buf = my_map,
	.unmap_dma_buf = my_unmap,
	.begin_cpu_access = my_begin_cpu_access,
	.end_cpu_access = my_end_cpu_access,
	.mmap = my_mmap_buffer,
	.release = my_release_buffer,
};

static int my_open(struct inode *inode, struct file *file)
{
	/* Its owner is this module, which a descriptor or a mapping keeps when the node is long closed. */
	DEFINE_DMA_BUF_EXPORT_INFO(info);

	info.ops = &my_ops;
	info.size = BYTES;
	/* What the node was not opened for, a descriptor of the buffer does not allow either. */
	info.flags = file->f_flags & O_ACCMODE;
	/* Zeroed, and marked as meant for user space. */
	info.priv = vmalloc_user(BYTES);
	if (!info.priv)
		return -ENOMEM;
	file->private_data = dma_buf_export(&info);
	if (!IS_ERR(file->private_data))
		return 0;
	vfree(info.priv);
	return PTR_ERR(file->private_data);
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
	/* Has the mapping hold the buffer instead of the node. */
	return dma_buf_mmap(file->private_data, vma, vma->vm_pgoff);
}

static ssize_t my_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	struct dma_buf *dmabuf = file->private_data;

	return simple_read_from_buffer(to, count, at, dmabuf->priv, BYTES);
}

static ssize_t my_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	struct dma_buf *dmabuf = file->private_data;

	return simple_write_to_buffer(dmabuf->priv, BYTES, at, from, count);
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

MODULE_IMPORT_NS("DMA_BUF");
MODULE_DESCRIPTION("a dma-buf exporter with mmap");
MODULE_LICENSE("GPL");
