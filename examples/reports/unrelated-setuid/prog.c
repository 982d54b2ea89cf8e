/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Gives up its rights, and may not do something then. */
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
	if (setgid(65534) || setuid(65534))
		return 2;
	if (open("/proc/1/mem", O_RDWR) < 0)
		return perror("open"), 1;
	return 0;
}
