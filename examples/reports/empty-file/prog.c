/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A new file is mapped and written to without ftruncate: SIGBUS. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/tmp/empty", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 1;
	return 0;
}
