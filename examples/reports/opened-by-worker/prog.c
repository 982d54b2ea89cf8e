/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* io_uring opens the device, and the program uses its memory after munmap. */
#define _GNU_SOURCE
#include "ring.h"
#include <stdio.h>

#define PAGE 4096

int main(void)
{
	int fd = open_by_worker("/dev/report-plain", 0);

	if (fd < 0)
		return perror("io_uring"), 1;
	volatile unsigned *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 1;
	munmap((void *)p, PAGE);
	return p[0];
}
