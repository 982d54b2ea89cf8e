/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Many threads, one of which leaves with an error. */
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

static pthread_t other[8];

static void *run(void *none)
{
	for (int i = 0; i < 100; i++)
		free(memset(malloc(1 << 18), 1, 1 << 18));
	return none;
}

int main(void)
{
	int fd = open("/dev/report-plain", O_RDWR);
	volatile unsigned *device = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	device[0] = 1;
	for (int i = 0; i < 8; i++)
		pthread_create(&other[i], NULL, run, NULL);
	for (int i = 0; i < 8; i++)
		pthread_join(other[i], NULL);
	return 5;
}
