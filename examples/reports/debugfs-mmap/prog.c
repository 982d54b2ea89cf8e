/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps a file of debugfs, whose driver has an mmap. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>

#define PAGE 4096

int main(void)
{
	int fd;

	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	fd = open("/sys/kernel/debug/report-debugfs-mmap", O_RDWR);
	if (fd < 0)
		return perror("open"), 1;
	if (mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
