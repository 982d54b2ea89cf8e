/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Makes memory of a noexec file system executable. */
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
	char *p;

	mkdir("/tmp/noexec2", 0700);
	mount("none", "/tmp/noexec2", "tmpfs", MS_NOEXEC, NULL);
	fd = open("/tmp/noexec2/code", O_RDWR | O_CREAT, 0700);
	if (ftruncate(fd, 4096))
		return perror("ftruncate"), 1;
	p = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	if (mprotect(p, 4096, PROT_READ | PROT_EXEC))
		return perror("mprotect"), 1;
	return 0;
}
