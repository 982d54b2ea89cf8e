/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A container's first process, whose program has a null pointer. */
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
#include <sched.h>
#include <sys/mount.h>

#define PAGE 4096

static int inside(void *unused)
{
	mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
	mount("proc", "/proc", "proc", 0, 0);
	if (fork() == 0)
		*(volatile int *)unused = 1;
	wait(0);
	return 3;
}

int main(void)
{
	static char stack[1 << 16];
	int fd = open("/dev/report-plain", O_RDWR);
	volatile unsigned *device = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	device[0] = 1;
	pid_t pid = clone(inside, stack + sizeof(stack), CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | SIGCHLD, 0);
	int status;

	if (pid < 0)
		return perror("clone"), 77;
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}
