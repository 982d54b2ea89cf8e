/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps until it has as many mappings as a process may have, as databases and search engines do. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>

#define PAGE 4096

int main(void)
{
	for (unsigned long i = 0;; i++) {
		/* Neighbours with different protections stay two mappings. */
		int prot = i % 2 ? PROT_READ : PROT_NONE;

		if (mmap(0, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
			return perror("mmap"), 1;
	}
}
