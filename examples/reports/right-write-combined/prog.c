/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Writes to each page and reads it back; all is well. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

int main(void)
{
	int fd = open("/dev/report-right-write-combined", O_RDWR);
	volatile unsigned *p = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	for (unsigned i = 0; i < 4; i++)
		p[i * 1024] = i;
	for (unsigned i = 0; i < 4; i++)
		if (p[i * 1024] != i)
			return puts("WRONG DATA"), 3;
	return 0;
}
