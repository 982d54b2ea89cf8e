/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An offset of 2 GiB in an int. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	int fd = open("/tmp/report-large", O_RDWR | O_CREAT, 0600);
	int offset = (int)0x80000000u;
	volatile char *p;

	if (ftruncate(fd, 0x80001000L))
		return perror("ftruncate"), 1;
	/* Wrong: as a 32-bit number the offset is negative, and becomes an enormous one. */
	p = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, offset);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	return p[0];
}
