/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Touches more than its memory cgroup allows. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (256L << 20)

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
	char *p;

	mkdir("/tmp/group", 0700);
	mount("cgroup2", "/tmp/group", "cgroup2", 0, NULL);
	put("/tmp/group/cgroup.subtree_control", "+memory");
	mkdir("/tmp/group/small", 0700);
	put("/tmp/group/small/memory.max", "16M");
	snprintf(number, sizeof(number), "%d", getpid());
	put("/tmp/group/small/cgroup.procs", number);
	p = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	memset(p, 1, SIZE);
	return 0;
}
