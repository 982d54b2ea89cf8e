/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Seals its memory, and unmaps it. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

int main(void)
{
	char *p = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 1;
	if (syscall(SYS_mseal, p, 2 * PAGE, 0))
		return errno == ENOSYS ? 77 : 1;
	if (munmap(p, 2 * PAGE))
		return perror("munmap"), 1;
	return 0;
}
