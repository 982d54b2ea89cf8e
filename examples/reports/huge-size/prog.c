/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Asks for huge pages of a size that there is not. */
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
	/* 16 MiB */
	void *p = mmap(0, 16 << 20, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (24 << 26), -1, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
