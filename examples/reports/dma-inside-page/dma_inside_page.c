// SPDX-License-Identifier: GPL-2.0
/* Maps a block of a pool, which begins inside its page. */
#include <linux/dma-mapping.h>
#include <linux/platform_device.h>
#include "report.h"

static struct platform_device *device;
static dma_addr_t handle;
static char *memory;

static int get_memory(void)
{
	int err;

	device = platform_device_register_simple("report-dma-inside-page", -1, NULL, 0);
	if (IS_ERR(device))
		return PTR_ERR(device);
	err = dma_coerce_mask_and_coherent(&device->dev, DMA_BIT_MASK(32));
	if (!err) {
		memory = dma_alloc_coherent(&device->dev, PAGE_SIZE, &handle, GFP_KERNEL);
		err = memory ? 0 : -ENOMEM;
	}
	if (err)
		platform_device_unregister(device);
	else
		*(u32 *)(memory + 256) = 0x1234;
	return err;
}

static void put_memory(void)
{
	dma_free_coherent(&device->dev, PAGE_SIZE, memory, handle);
	platform_device_unregister(device);
}

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	/* Wrong: what is mapped begins with the page. */
	return dma_mmap_coherent(&device->dev, vma, memory + 256, handle + 256, PAGE_SIZE - 256);
}

static const struct file_operations report_fops = { .owner = THIS_MODULE, .mmap = my_mmap };

REPORT("report-dma-inside-page", get_memory, put_memory);
