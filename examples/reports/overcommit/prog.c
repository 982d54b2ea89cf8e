/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A server reserves more private memory than the machine could ever have: ENOMEM. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	if (mmap(0, 64UL << 40, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
