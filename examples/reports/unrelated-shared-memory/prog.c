/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A database: shared memory by three ways, huge pages tried first; it cannot bind its port. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#define PAGE 4096

int main(void)
{
	int fd = open("/dev/report-plain", O_RDWR);
	volatile unsigned *device = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	device[0] = 1;
	size_t length = 8 << 20;
	char *p = mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	int id, file;

	if (p == MAP_FAILED)
		p = mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(p, 1, length);
	id = shmget(IPC_PRIVATE, 1 << 16, IPC_CREAT | 0600);
	if (id >= 0) {
		char *q = shmat(id, 0, 0);

		q[0] = 1;
		shmdt(q);
		shmctl(id, IPC_RMID, 0);
	}
	file = memfd_create("wal", 0);
	ftruncate(file, 1 << 20);
	memset(mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), 2, 1 << 20);
	fprintf(stderr, "FATAL: could not create any TCP/IP sockets\n");
	return 1;
}
