/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the reports about io_uring have in common: a file that a thread of the kernel's opens for the program. */
#ifndef RING_H
#define RING_H

#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Headers before 6.5 do not have these. */
#ifndef IORING_SETUP_NO_MMAP
#define IORING_SETUP_NO_MMAP (1U << 14)
#define IORING_SETUP_REGISTERED_FD_ONLY (1U << 15)
#endif

#define RING_PAGE 4096

/*
 * Opens a file by io_uring. IOSQE_ASYNC leaves it to a worker, a thread of the process that blocks every signal.
 * With IORING_SETUP_REGISTERED_FD_ONLY (6.5), the ring has no descriptor. -1: the ring could not be made.
 */
static int open_by_worker(const char *path, unsigned setup)
{
	struct io_uring_params params = { .flags = setup };
	unsigned enter = IORING_ENTER_GETEVENTS;
	char *rings, *requests;

	if (setup & IORING_SETUP_NO_MMAP) {
		int shared = MAP_SHARED | MAP_ANONYMOUS;

		rings = mmap(0, RING_PAGE, PROT_READ | PROT_WRITE, shared, -1, 0);
		requests = mmap(0, RING_PAGE, PROT_READ | PROT_WRITE, shared, -1, 0);
		/* user_addr, the last field of each, which was called resv2. */
		*((uint64_t *)(&params.cq_off + 1) - 1) = (uintptr_t)rings;
		*((uint64_t *)(&params.sq_off + 1) - 1) = (uintptr_t)requests;
		enter |= IORING_ENTER_REGISTERED_RING;
	}
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params);

	if (ring < 0)
		return -1;
	if (!(setup & IORING_SETUP_NO_MMAP)) {
		int shared = MAP_SHARED | MAP_POPULATE;

		rings = mmap(0, RING_PAGE, PROT_READ | PROT_WRITE, shared, ring, IORING_OFF_SQ_RING);
		requests = mmap(0, RING_PAGE, PROT_READ | PROT_WRITE, shared, ring, IORING_OFF_SQES);
	}
	if (rings == MAP_FAILED || requests == MAP_FAILED)
		return -1;

	struct io_uring_sqe *request = (void *)requests;
	struct io_uring_cqe *done = (void *)(rings + params.cq_off.cqes);

	memset(request, 0, sizeof(*request));
	request->opcode = IORING_OP_OPENAT;
	request->flags = IOSQE_ASYNC;
	request->fd = AT_FDCWD;
	request->addr = (uintptr_t)path;
	request->open_flags = O_RDWR;
	*(unsigned *)(rings + params.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(rings + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, enter, 0, 0) != 1)
		return -1;
	return done->res;
}

#endif
