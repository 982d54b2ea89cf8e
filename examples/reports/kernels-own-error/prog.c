/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps a device that answers with an error of its own. */
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
	int fd = open("/dev/report-kernels-own-error", O_RDWR);
	volatile unsigned *p = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	for (unsigned i = 0; i < 4; i++)
		p[i * 1024] = i;
	return 0;
}
