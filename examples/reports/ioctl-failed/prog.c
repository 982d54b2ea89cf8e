/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Takes the offset from an ioctl that failed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-plain", O_RDWR);
	unsigned long offset = ~0xfffUL;
	void *p;

	ioctl(fd, 7, &offset);
	p = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, (off_t)(offset >> 1 & ~0xfffUL));
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
