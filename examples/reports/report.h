/* SPDX-License-Identifier: GPL-2.0 */
/* What the drivers of the reports have in common: a node /dev/NAME with file operations of their own, report_fops. */
#ifndef REPORT_H
#define REPORT_H

#include <linux/fs.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define REPORT(title, setup, teardown)						\
	static struct miscdevice report = {					\
		.minor = MISC_DYNAMIC_MINOR,					\
		.name = title,							\
		.fops = &report_fops,						\
		.mode = 0666,							\
	};									\
	static int __init report_init(void)					\
	{									\
		int err = setup();						\
										\
		if (err)							\
			return err;						\
		err = misc_register(&report);					\
		if (err)							\
			teardown();						\
		return err;							\
	}									\
	static void __exit report_exit(void)					\
	{									\
		misc_deregister(&report);					\
		teardown();							\
	}									\
	module_init(report_init);						\
	module_exit(report_exit);						\
	MODULE_DESCRIPTION("a report of mapbuf's museum: " title);		\
	MODULE_LICENSE("GPL")

#endif
