/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads what the driver mapped. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-static-buffer", O_RDWR);
	volatile unsigned *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	printf("first word %#x\n", p[0]);
	return 0;
}
