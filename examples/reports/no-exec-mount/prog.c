/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Executes from a file system that forbids it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	int fd;

	mkdir("/tmp/noexec", 0700);
	mount("none", "/tmp/noexec", "tmpfs", MS_NOEXEC, NULL);
	fd = open("/tmp/noexec/code", O_RDWR | O_CREAT, 0700);
	if (ftruncate(fd, 4096))
		return perror("ftruncate"), 1;
	if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
