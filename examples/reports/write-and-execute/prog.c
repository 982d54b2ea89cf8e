/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A service that may not have memory that it can write and execute. */
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
#include <sys/prctl.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-plain", O_RDWR);
	void *p;

	if (prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0))
		return 77;
	p = mmap(0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), close(fd), 1;
	return 0;
}
