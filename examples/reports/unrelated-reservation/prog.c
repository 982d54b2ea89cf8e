/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An allocator that sets aside much and tries places, as Go's and Chromium's do; then an assertion fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-plain", O_RDWR);
	volatile unsigned *device = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	device[0] = 1;
	char *all = mmap(0, 64ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	for (int i = 0; i < 4; i++)
		mmap(all + i * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	mmap((void *)0xc000000000, 1 << 26, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(all, 1 << 20, PROT_READ | PROT_WRITE);
	memset(all, 1, 1 << 20);
	madvise(all, 1 << 20, MADV_DONTNEED);
	madvise(all, 1 << 20, MADV_FREE);
	if (all[0] == 0)
		abort();
	return 0;
}
