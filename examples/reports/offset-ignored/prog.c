/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps the whole and then the second page. */
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
	int fd = open("/dev/report-offset-ignored", O_RDWR);
	volatile unsigned *all = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	volatile unsigned *second = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);

	if (all == MAP_FAILED || second == MAP_FAILED)
		return perror("mmap"), 1;
	all[0] = 1;
	all[1024] = 2;
	return second[0] == 2 ? 0 : (puts("WRONG DATA"), 3);
}
