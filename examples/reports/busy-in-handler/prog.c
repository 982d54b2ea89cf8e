/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Touches the first page, then the second. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-busy-in-handler", O_RDWR);
	volatile unsigned *p = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	printf("%u\n", p[0]);
	printf("%u\n", p[PAGE / sizeof(*p)]);
	return 0;
}
