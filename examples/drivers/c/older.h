/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What kernels before 6.13 lack: Kbuild puts it before each driver, so that the drivers show today's code alone. A driver
 * for a newer kernel does not need it.
 */
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#include <linux/mm.h>

static inline void vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags &= ~flags;
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
/* Dropped by the kernel's Makefile since: what is cleaned up by itself is declared where it gets its value. */
#pragma GCC diagnostic ignored "-Wdeclaration-after-statement"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#include <linux/pci.h>

static inline void __iomem *older_iomap_region(struct pci_dev *pci, int bar, const char *name)
{
	int err = pcim_iomap_regions(pci, BIT(bar), name);

	return err ? IOMEM_ERR_PTR(err) : pcim_iomap_table(pci)[bar];
}
/* Some of them have it for themselves. */
#define pcim_iomap_region older_iomap_region
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#include <linux/module.h>

/* The name is a string since then. */
#undef MODULE_IMPORT_NS
#define MODULE_IMPORT_NS(name) MODULE_INFO(import_ns, name)
#endif
