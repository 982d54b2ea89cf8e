/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Wants huge pages of which none was set aside. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	/* Whoever set some aside before needs them no more. */
	int count = open("/proc/sys/vm/nr_hugepages", O_WRONLY);
	ssize_t written = write(count, "0", 1);
	void *p = mmap(0, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (written < 0)
		return perror("nr_hugepages"), 1;
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	return 0;
}
