/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* What programs and dma_buf_exporter.c share. */
#ifndef DMA_BUF_EXPORTER_H
#define DMA_BUF_EXPORTER_H

#include <linux/ioctl.h>

/* Returns a descriptor of the buffer, for other drivers and other processes. */
#define MY_EXPORT _IO('M', 3)

#endif
