/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps a UIO device by its physical address. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

int main(void)
{
	int fd = open("/dev/uio0", O_RDWR);

	if (fd < 0)
		return perror("/dev/uio0"), 1;
	/* Wrong: UIO takes the number of the region times the page size, not an address. */
	if (mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0x30000000) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
