// SPDX-License-Identifier: GPL-2.0
/* Question A's encoding (the buffer's id in the offset), left in vm_pgoff for dma_mmap_coherent. */
#include "museum.h"
#include <linux/dma-mapping.h>
#include <linux/platform_device.h>

#define ID 7
#define SIZE (4 * PAGE_SIZE)

static struct platform_device *device;
static void *memory;
static dma_addr_t address;

static int my_mmap(struct file *file, struct vm_area_struct *vma)
{
	int err;

	if (vma->vm_pgoff != ID)
		return -ENOENT;
	/* Wrong: vma->vm_pgoff = 0 is missing. */
	err = dma_mmap_coherent(&device->dev, vma, memory, address, SIZE);
	return err;
}

static int my_setup(void)
{
	device = platform_device_register_simple("broken-offset-is-id", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(device))
		return PTR_ERR(device);
	if (!dma_coerce_mask_and_coherent(&device->dev, DMA_BIT_MASK(64)))
		memory = dma_alloc_coherent(&device->dev, SIZE, &address, GFP_KERNEL);
	if (memory)
		return 0;
	platform_device_unregister(device);
	return -ENOMEM;
}

static void my_teardown(void)
{
	dma_free_coherent(&device->dev, SIZE, memory, address);
	platform_device_unregister(device);
}

static const struct file_operations exhibit_fops = {
	.owner = THIS_MODULE,
	.mmap = my_mmap,
};

EXHIBIT("offset-is-id", my_setup, my_teardown);
