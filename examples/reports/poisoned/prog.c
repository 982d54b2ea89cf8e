/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Memory that has failed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#ifndef MADV_HWPOISON
#define MADV_HWPOISON 100
#endif

int main(void)
{
	volatile char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 1;
	/* A kernel without CONFIG_MEMORY_FAILURE cannot show it. */
	if (madvise((void *)p, 4096, MADV_HWPOISON))
		return perror("madvise"), 77;
	return p[0];
}
