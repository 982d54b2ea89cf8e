/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Persistent memory without a DAX file system. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	int fd = open("/tmp/report-sync", O_RDWR | O_CREAT, 0600);

	if (ftruncate(fd, 4096))
		return perror("ftruncate"), 1;
	if (mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
