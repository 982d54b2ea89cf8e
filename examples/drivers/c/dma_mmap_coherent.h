/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* What programs and dma_mmap_coherent.c share. */
#ifndef DMA_MMAP_COHERENT_H
#define DMA_MMAP_COHERENT_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The same layout for programs of 32 and of 64 bits: no compat code. */
struct my_alloc {
	__u64 bytes;	/* Rounded up to whole pages. */
	__u64 flags;	/* None yet, so 0. */
};

/* Returns an id: map it at the offset id << PAGE_SHIFT. */
#define MY_ALLOC _IOW('M', 1, struct my_alloc)
/* The argument is the id itself. */
#define MY_FREE _IO('M', 2)

#endif
