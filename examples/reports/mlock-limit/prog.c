/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Locks more than it may. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define SIZE (8 << 20)

int main(void)
{
	struct rlimit limit = { 64 << 10, 64 << 10 };
	char *p = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	setrlimit(RLIMIT_MEMLOCK, &limit);
	if (setgid(1000) || setuid(1000))
		return perror("setuid"), 1;
	if (mlock(p, SIZE))
		return perror("mlock"), 1;
	return 0;
}
