/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Looks for the driver's mark at the mapping's start. */
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
	int fd = open("/dev/report-dma-inside-page", O_RDWR);
	volatile unsigned *p = mmap(0, 1 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	if (p[0] != 0x1234)
		return puts("WRONG DATA"), 3;
	return 0;
}
