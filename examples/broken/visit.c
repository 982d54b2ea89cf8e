/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The museum's visitor: maps a node as a program would, and reads the first word of each page.
 *
 *   visit NODE [PAGES [OFFSET-IN-PAGES [shared|private [free|vmread|direct|uring|poke]]]]
 *   visit dma-heap | udmabuf
 *   visit lingering FILE
 *
 * free: tells the driver to free the buffer before reading. Others come after it: vmread reads the first page by
 * process_vm_readv, direct writes it to the disk /dev/ram0 with O_DIRECT, uring registers it as io_uring's buffer,
 * poke writes to it, although it is mapped for reading. lingering: a child outlives the visitor, asks for an mmap that
 * the C library refuses, and writes the error's number to a file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/io_uring.h>
#include <linux/udmabuf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096L

static int fail(const char *what)
{
	fprintf(stderr, "visit: %s: %s\n", what, strerror(errno));
	return 1;
}

static int from_heap(void)
{
	struct dma_heap_allocation_data data = { .len = 16 * PAGE, .fd_flags = O_RDWR | O_CLOEXEC };
	int heap = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);

	if (heap < 0 || ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) < 0)
		return -1;
	close(heap);
	return (int)data.fd;
}

static int from_udmabuf(void)
{
	int memory = memfd_create("visit", MFD_ALLOW_SEALING);
	int device = open("/dev/udmabuf", O_RDWR);
	struct udmabuf_create create = { .size = 16 * PAGE };

	if (memory < 0 || device < 0 || ftruncate(memory, 16 * PAGE) < 0 || fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return -1;
	create.memfd = (uint32_t)memory;
	return ioctl(device, UDMABUF_CREATE, &create);
}

static int vmread(void *memory)
{
	char copy[64];
	struct iovec local = { copy, sizeof(copy) }, remote = { memory, sizeof(copy) };

	if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0)
		return fail("process_vm_readv");
	return 0;
}

static int direct(const void *memory)
{
	int disk = open("/dev/ram0", O_WRONLY | O_DIRECT | O_CLOEXEC);

	if (disk < 0)
		return fail("/dev/ram0");
	if (write(disk, memory, PAGE) != PAGE)
		return fail("write with O_DIRECT");
	close(disk);
	return 0;
}

static int uring(void *memory)
{
	struct io_uring_params parameters = { 0 };
	struct iovec buffer = { memory, PAGE };
	int ring = (int)syscall(SYS_io_uring_setup, 1, &parameters);

	if (ring < 0)
		return fail("io_uring_setup");
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1) < 0)
		return fail("io_uring_register");
	close(ring);
	return 0;
}

static int linger(const char *path)
{
	FILE *file;

	if (fork())
		return 0;
	sleep(3);
	if (mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1) != MAP_FAILED)
		return 1;
	file = fopen(path, "w");
	if (!file)
		return 1;
	fprintf(file, "%d\n", errno);
	return fclose(file) ? 1 : 0;
}

int main(int argc, char **argv)
{
	const char *node = argc > 1 ? argv[1] : "";
	long pages = argc > 2 ? strtol(argv[2], NULL, 0) : 16;
	long offset = argc > 3 ? strtol(argv[3], NULL, 0) : 0;
	int sharing = argc > 4 && !strcmp(argv[4], "private") ? MAP_PRIVATE : MAP_SHARED;
	const char *then = argc > 5 ? argv[5] : "";
	volatile uint32_t *memory;
	/* io_uring wants to write to its buffers. */
	int writes = !strcmp(then, "uring");
	uint32_t sum = 0;
	int failed = 0;
	int fd;

	if (!strcmp(node, "lingering"))
		return linger(argc > 2 ? argv[2] : "");
	if (!strcmp(node, "dma-heap"))
		fd = from_heap();
	else if (!strcmp(node, "udmabuf"))
		fd = from_udmabuf();
	else
		fd = open(node, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return fail(node);
	memory = mmap(NULL, (size_t)(pages * PAGE), writes ? PROT_READ | PROT_WRITE : PROT_READ, sharing, fd, offset * PAGE);
	if (memory == MAP_FAILED)
		return fail("mmap");
	if (!strcmp(then, "free") && ioctl(fd, _IO('m', 1)) < 0)
		return fail("ioctl");
	close(fd);
	for (long page = 0; page < pages; page++)
		sum ^= memory[page * PAGE / 4];
	if (!strcmp(then, "vmread"))
		failed = vmread((void *)memory);
	else if (!strcmp(then, "direct"))
		failed = direct((void *)memory);
	else if (!strcmp(then, "uring"))
		failed = uring((void *)memory);
	else if (!strcmp(then, "poke"))
		memory[0] = 1;
	if (failed)
		return failed;
	printf("%ld pages read; the first word is %#x, all together %#x\n", pages, memory[0], sum);
	return 0;
}
