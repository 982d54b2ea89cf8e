/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Writes by mappings that grow with their file; the last call is refused, as the file was closed. */
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
	int file = open("/tmp/growing", O_RDWR | O_CREAT | O_TRUNC, 0600);
	size_t length = PAGE;
	char *p;

	ftruncate(file, length);
	p = mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	for (int i = 0; i < 6; i++) {
		ftruncate(file, length * 2);
		p = mremap(p, length, length * 2, MREMAP_MAYMOVE);
		if (p == MAP_FAILED)
			return perror("mremap"), 2;
		length *= 2;
		memset(p, i, length);
	}
	close(file);
	if (write(file, p, 1) < 0)
		return perror("write"), 1;
	return 0;
}
