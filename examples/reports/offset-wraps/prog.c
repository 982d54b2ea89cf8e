/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An id that was shifted too far. */
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
	int fd = open("/dev/report-plain", O_RDWR);

	if (syscall(SYS_mmap, 0, 4 * PAGE, PROT_READ, MAP_SHARED, fd, -PAGE) == -1)
		return perror("mmap"), 1;
	return 0;
}
