/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps two pages, and touches both. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-insert-in-pfn-vma", O_RDWR);
	volatile char *p = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 1;
	p[PAGE] = 1;
	return 0;
}
