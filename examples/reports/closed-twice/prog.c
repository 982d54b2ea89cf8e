/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Forks; the child ends first. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-closed-twice", O_RDWR);
	volatile unsigned *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 42;
	if (!fork())
		_exit(0);
	wait(NULL);
	printf("after the child's end: %u\n", p[0]);
	return 0;
}
