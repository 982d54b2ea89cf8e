/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps something else over the device's memory. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-plain", O_RDWR);
	volatile unsigned *p = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 42;
	/* Wrong: nothing asks whether something is there already. */
	if (mmap((void *)p, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return perror("mmap"), 1;
	if (p[0] != 42)
		return fprintf(stderr, "the device's memory is gone\n"), 1;
	return 0;
}
