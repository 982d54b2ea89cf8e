/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Gives a device's memory back. */
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
	if (madvise(p, 2 * PAGE, MADV_DONTNEED))
		return perror("madvise"), 1;
	return 0;
}
