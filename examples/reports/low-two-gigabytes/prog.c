/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Wants more than there is below 2 GiB. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

int main(void)
{
	long i;

	for (i = 0; i < 16; i++)
		if (mmap(0, 128 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0) == MAP_FAILED)
			return perror("mmap"), 1;
	return 0;
}
