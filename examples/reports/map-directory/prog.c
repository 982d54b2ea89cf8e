/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A directory is mapped in place of the file in it: ENODEV. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/tmp", O_RDONLY | O_DIRECTORY);

	if (mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
