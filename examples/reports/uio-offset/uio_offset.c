// SPDX-License-Identifier: GPL-2.0
/* A UIO device with one region. */
#include "report.h"

#include <linux/platform_device.h>
#include <linux/uio_driver.h>

static struct platform_device *device;
static struct uio_info info = {
	.name = "report-uio",
	.version = "1",
	.mem[0] = { .name = "registers", .addr = 0x30000000, .size = PAGE_SIZE, .memtype = UIO_MEM_PHYS },
};
static const struct file_operations report_fops = { .owner = THIS_MODULE };

static int get_memory(void)
{
	device = platform_device_register_simple("report-uio", -1, NULL, 0);
	if (IS_ERR(device))
		return PTR_ERR(device);
	return uio_register_device(&device->dev, &info);
}

static void put_memory(void)
{
	uio_unregister_device(&info);
	platform_device_unregister(device);
}

REPORT("report-uio-offset", get_memory, put_memory);
