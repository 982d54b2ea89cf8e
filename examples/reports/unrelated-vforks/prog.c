/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Starts many programs by vfork, as shells and build systems do; one fails. */
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
	for (int i = 0; i < 40; i++) {
		pid_t pid = vfork();

		if (pid == 0) {
			execl("/bin/busybox", "busybox", i == 20 ? "false" : "true", (char *)0);
			_exit(i == 20);
		}
		waitpid(pid, 0, 0);
	}
	return device[0] == 1 ? 4 : 5;
}
