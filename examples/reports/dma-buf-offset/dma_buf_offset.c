// SPDX-License-Identifier: GPL-2.0
/* An imported dma-buf that is mapped with the offset of the importer. */
#include "report.h"

#include <linux/dma-buf.h>
#include <linux/version.h>

static struct dma_buf *buffer;
static char *memory;

static struct sg_table *no_table(struct dma_buf_attachment *attachment, enum dma_data_direction direction)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static void no_unmap(struct dma_buf_attachment *attachment, struct sg_table *table, enum dma_data_direction direction)
{
}

static void my_release(struct dma_buf *unused)
{
	free_pages((unsigned long)memory, 2);
}

static int map_buffer(struct dma_buf *unused, struct vm_area_struct *vma)
{
	return remap_pfn_range(vma, vma->vm_start, (virt_to_phys(memory) >> PAGE_SHIFT) + vma->vm_pgoff,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static const struct dma_buf_ops my_ops = {
	.map_dma_buf = no_table,
	.unmap_dma_buf = no_unmap,
	.mmap = map_buffer,
	.release = my_release,
};

static int get_memory(void)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);

	memory = (char *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 2);
	if (!memory)
		return -ENOMEM;
	info.ops = &my_ops;
	info.size = 4 * PAGE_SIZE;
	info.flags = O_RDWR;
	info.priv = memory;
	buffer = dma_buf_export(&info);
	return PTR_ERR_OR_ZERO(buffer);
}

static void put_memory(void)
{
	dma_buf_put(buffer);
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* Wrong: the offset is a cookie of this driver's, and none in the buffer. */
	return dma_buf_mmap(buffer, vma, vma->vm_pgoff);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("DMA_BUF");
#else
MODULE_IMPORT_NS(DMA_BUF);
#endif
REPORT("report-dma-buf-offset", get_memory, put_memory);
