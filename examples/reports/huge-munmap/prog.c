/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Gives back huge pages by the length that it asked for, which was rounded up. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	int count = open("/proc/sys/vm/nr_hugepages", O_WRONLY);
	char *p;

	if (write(count, "4", 1) < 0)
		return perror("nr_hugepages"), 1;
	p = mmap(0, 3 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	if (munmap(p, 3 << 20))
		return perror("munmap"), 1;
	return 0;
}
