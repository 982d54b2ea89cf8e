/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* mprotect of an address within a page of a device: EINVAL. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-plain", O_RDWR);
	char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	if (mprotect(p + 64, 64, PROT_READ))
		return perror("mprotect"), 1;
	return 0;
}
