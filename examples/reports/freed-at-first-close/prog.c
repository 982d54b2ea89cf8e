/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Unmaps one page of four, and goes on with the others. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-freed-at-first-close", O_RDWR);
	volatile unsigned *p = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 1;
	munmap((char *)p + 3 * PAGE, PAGE);
	/* It is somebody else's now: a write would hit whoever that is. */
	return p[1024] == 0x6d61 ? 2 : 0;
}
