/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps a file on hugetlbfs from an offset within a huge page. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	int fd, count;

	mkdir("/tmp/huge", 0700);
	mount("none", "/tmp/huge", "hugetlbfs", 0, NULL);
	count = open("/proc/sys/vm/nr_hugepages", O_WRONLY);
	if (write(count, "4", 1) < 0)
		return perror("nr_hugepages"), 1;
	fd = open("/tmp/huge/file", O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return perror("open"), 1;
	if (mmap(0, 2 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
