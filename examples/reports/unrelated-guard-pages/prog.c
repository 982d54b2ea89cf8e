/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A runtime that stops its threads by a page that cannot be read, and then has a bug of its own. */
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

static char *guard;
static volatile int stops;

static void on_fault(int number, siginfo_t *info, void *unused)
{
	(void)unused;
	if (info->si_addr == guard) {
		stops++;
		mprotect(guard, PAGE, PROT_READ);
		return;
	}
	signal(number, SIG_DFL);
}

int main(void)
{
	int fd = open("/dev/report-plain", O_RDWR);
	volatile unsigned *device = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	device[0] = 1;
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	guard = mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaction(SIGSEGV, &action, 0);
	for (int i = 0; i < 5; i++) {
		mprotect(guard, PAGE, PROT_NONE);
		*(volatile char *)guard;
	}
	return *(volatile int *)0x18;
}
