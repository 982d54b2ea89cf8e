/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A small tmpfs, as containers have it: ftruncate takes any size, and memset is a SIGBUS. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	mkdir("/tmp/shm", 0700);
	if (mount("tmpfs", "/tmp/shm", "tmpfs", 0, "size=64k"))
		return perror("mount"), 1;
	int fd = open("/tmp/shm/root", O_RDWR | O_CREAT, 0600);

	if (ftruncate(fd, 1 << 20))
		return perror("ftruncate"), 1;
	char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	umount2("/tmp/shm", MNT_DETACH);
	memset(p, 0, 1 << 20);
	return 0;
}
