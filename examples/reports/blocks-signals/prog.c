/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A daemon that blocks all signals, and uses a device's memory after munmap. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, 0);
	int fd = open("/dev/report-plain", O_RDWR);

	usleep(300 * 1000);
	volatile unsigned *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 1;
	munmap((void *)p, PAGE);
	return p[0];
}
