/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Has the kernel read a file into the mapping: no signal, but EFAULT. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-half-mapped", O_RDWR);
	volatile unsigned *p = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	int zero = open("/dev/zero", O_RDONLY);

	if (read(zero, (char *)p, 2 * PAGE) != 2 * PAGE)
		return perror("read"), 1;
	if (read(zero, (char *)p + 2 * PAGE, PAGE) < 0)
		return perror("read"), 1;
	return 0;
}
