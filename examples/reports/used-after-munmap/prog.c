/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A second thread unmaps what the first one still reads. */
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

static volatile unsigned *p;

static void *unmap(void *none)
{
	munmap((void *)p, PAGE);
	return none;
}

int main(void)
{
	int fd = open("/dev/report-plain", O_RDWR);
	pthread_t other;

	p = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	pthread_create(&other, NULL, unmap, NULL);
	pthread_join(other, NULL);
	return (int)p[0];
}
