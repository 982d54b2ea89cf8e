/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* As opened-by-worker, by a ring that is no file of the program's. */
#define _GNU_SOURCE
#include "ring.h"
#include <errno.h>
#include <stdio.h>

#define PAGE 4096

int main(void)
{
	int fd = open_by_worker("/dev/report-plain", IORING_SETUP_NO_MMAP | IORING_SETUP_REGISTERED_FD_ONLY);

	if (fd < 0 && errno == EINVAL)
		return 77;
	if (fd < 0)
		return perror("io_uring"), 1;
	volatile unsigned *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 1;
	munmap((void *)p, PAGE);
	return p[0];
}
