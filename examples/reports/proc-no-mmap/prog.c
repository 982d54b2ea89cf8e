/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps a file of /proc. */
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
	int fd = open("/proc/cpuinfo", O_RDONLY);

	if (mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
