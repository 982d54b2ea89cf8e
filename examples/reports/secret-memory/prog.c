/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads secret memory as another process's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int main(void)
{
	int fd = syscall(SYS_memfd_secret, 0);
	int to = open("/tmp/report-secret", O_RDWR | O_CREAT | O_DIRECT, 0600);
	struct iovec here, there;
	char copy[16], *p;

	/* Before 6.5 it is off (secretmem.enable). */
	if (fd < 0)
		return perror("memfd_secret"), 77;
	if (ftruncate(fd, 4096))
		return perror("ftruncate"), 1;
	p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	p[0] = 1;
	here = (struct iovec){ copy, sizeof(copy) };
	there = (struct iovec){ p, sizeof(copy) };
	if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) < 0)
		return perror("process_vm_readv"), 1;
	(void)to;
	return 0;
}
