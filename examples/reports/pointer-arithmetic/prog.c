/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Adds bytes to a pointer to words. */
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
	volatile unsigned *registers = mmap((void *)0x10000000, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned offset = 0xc00;

	registers[0] = 1;
	/* Wrong: offset / sizeof(*registers). */
	return registers[offset];
}
