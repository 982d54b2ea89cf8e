/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* MAP_LOCKED beyond the limit of locked memory: EAGAIN, as graph and storage libraries met it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	struct rlimit limit = { 64 << 10, 64 << 10 };
	int fd = memfd_create("indices", 0);

	setrlimit(RLIMIT_MEMLOCK, &limit);
	if (ftruncate(fd, 1 << 20) || setgid(1000) || setuid(1000))
		return perror("preparation"), 1;
	if (mmap(0, 1 << 20, PROT_READ, MAP_SHARED | MAP_LOCKED, fd, 0) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
