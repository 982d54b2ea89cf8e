/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Unmaps by a pointer that is not the mapping's start. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-plain", O_RDWR);
	char *p = mmap(0, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	/* Wrong: the pointer has the register's offset in it. */
	if (munmap(p + 0x40, 2 * PAGE))
		return perror("munmap"), 1;
	return 0;
}
