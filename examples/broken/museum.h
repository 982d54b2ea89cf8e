/* SPDX-License-Identifier: GPL-2.0 */
/* What all exhibits have in common: a node /dev/broken-NAME, and an mmap of their own. */
#ifndef MUSEUM_H
#define MUSEUM_H

#include <linux/fs.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define EXHIBIT(title, setup, teardown)						\
	static struct miscdevice exhibit = {					\
		.minor = MISC_DYNAMIC_MINOR,					\
		.name = "broken-" title,						\
		.fops = &exhibit_fops,						\
		.mode = 0444,							\
	};									\
	static int __init exhibit_init(void)					\
	{									\
		int err = setup();						\
										\
		if (err)							\
			return err;						\
		err = misc_register(&exhibit);					\
		if (err)							\
			teardown();						\
		return err;							\
	}									\
	static void __exit exhibit_exit(void)					\
	{									\
		misc_deregister(&exhibit);					\
		teardown();							\
	}									\
	module_init(exhibit_init);						\
	module_exit(exhibit_exit);						\
	MODULE_DESCRIPTION("an exhibit of mapbuf's museum: " title);		\
	MODULE_LICENSE("GPL")

#endif
