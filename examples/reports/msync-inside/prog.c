/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Syncs by the address of what it wrote. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/tmp/report-msync", O_RDWR | O_CREAT, 0600);
	char *p;

	if (ftruncate(fd, 2 * PAGE))
		return perror("ftruncate"), 1;
	p = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[100] = 1;
	if (msync(p + 100, 1, MS_SYNC))
		return perror("msync"), 1;
	return 0;
}
