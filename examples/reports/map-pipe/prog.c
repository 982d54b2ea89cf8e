/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Standard input is mapped, and is a pipe: ENODEV. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	int ends[2];

	if (pipe(ends))
		return perror("pipe"), 1;
	if (mmap(0, PAGE, PROT_READ, MAP_PRIVATE, ends[0], 0) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
