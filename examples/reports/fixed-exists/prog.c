/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* MAP_FIXED_NOREPLACE where something is mapped: EEXIST, as loaders at fixed addresses meet it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	char *p = mmap(0, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
