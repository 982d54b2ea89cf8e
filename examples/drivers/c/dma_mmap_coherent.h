/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* What programs and dma_mmap_coherent.c share. */
#ifndef DMA_MMAP_COHERENT_H
#define DMA_MMAP_COHERENT_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The same layout for programs of 32 and of 64 bits: no compat code. */
struct my_alloc {
	__u64 bytes;	/* In: rounded up to whole pages. */
	__u32 flags;	/* In: none yet, so 0. */
	__u32 id;	/* Out: map it at the offset id << PAGE_SHIFT. */
};

#define MY_ALLOC _IOWR('M', 1, struct my_alloc)
/* The argument is the id itself. */
#define MY_FREE _IO('M', 2)

#endif
