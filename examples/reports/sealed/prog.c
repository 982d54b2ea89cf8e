/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Writes to a memfd that is sealed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	int fd = memfd_create("frame", MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, 4096) || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE))
		return perror("memfd"), 1;
	if (mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
