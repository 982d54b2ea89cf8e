/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps at an offset that the buffer does not have. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-offset-unchecked", O_RDWR);
	volatile unsigned *p = mmap(0, 4096 * PAGE, PROT_READ, MAP_SHARED, fd, 0x4000000);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	printf("first word %#x\n", p[0]);
	return 0;
}
