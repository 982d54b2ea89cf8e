/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A daemon: its first two processes end, and the third one overruns a buffer. */
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
	if (fork())
		return 0;
	setsid();
	if (fork())
		_exit(0);
	chdir("/");
	char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(p, PAGE, PROT_READ);
	p[0] = 1;
	return 0;
}
