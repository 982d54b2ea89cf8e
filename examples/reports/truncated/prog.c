/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file that shrank. */
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
	int fd = open("/tmp/truncated", O_RDWR | O_CREAT, 0600);
	char *p;

	ftruncate(fd, 8 * PAGE);
	p = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	p[7 * PAGE] = 1;
	ftruncate(fd, PAGE);
	p[7 * PAGE] = 2;
	return 0;
}
