/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* MAP_FIXED at the address 0: EPERM, as emulators and loaders meet it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	if (setgid(1000) || setuid(1000))
		return perror("setuid"), 1;
	void *p = mmap(0, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
