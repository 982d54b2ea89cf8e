/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Huge pages are free, and its cgroup may have none. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (4L << 20)

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror(path);
	close(fd);
}

int main(void)
{
	char number[16];
	volatile char *p;

	mkdir("/tmp/hugegroup", 0700);
	mount("cgroup2", "/tmp/hugegroup", "cgroup2", 0, NULL);
	put("/proc/sys/vm/nr_hugepages", "4");
	put("/tmp/hugegroup/cgroup.subtree_control", "+hugetlb");
	mkdir("/tmp/hugegroup/none", 0700);
	put("/tmp/hugegroup/none/hugetlb.2MB.max", "0");
	snprintf(number, sizeof(number), "%d", getpid());
	put("/tmp/hugegroup/none/cgroup.procs", number);
	p = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 1;
	return 0;
}
