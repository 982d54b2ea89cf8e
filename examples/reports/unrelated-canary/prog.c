/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A buffer on the stack that is written past its end. */
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

static __attribute__((noinline)) void fill(char *at, size_t length)
{
	memset(at, 'x', length);
}

int main(int argc, char **argv)
{
	int fd = open("/dev/report-plain", O_RDWR);
	volatile unsigned *device = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	device[0] = 1;
	char name[16];

	(void)argv;
	fill(name, 4096 * (size_t)argc);
	fill((char *)((uintptr_t)device | 1) - 1, 8);
	abort();
}
