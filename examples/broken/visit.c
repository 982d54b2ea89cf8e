/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The museum's visitor: maps a node as a program would, and reads the first word of each page.
 *
 *   visit NODE [PAGES [OFFSET-IN-PAGES [shared|private [vmread|free]]]]
 *   visit dma-heap | udmabuf
 *
 * vmread: then reads the first page by process_vm_readv. free: tells the driver to free the buffer before reading.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
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

int main(int argc, char **argv)
{
	const char *node = argc > 1 ? argv[1] : "";
	long pages = argc > 2 ? strtol(argv[2], NULL, 0) : 16;
	long offset = argc > 3 ? strtol(argv[3], NULL, 0) : 0;
	int sharing = argc > 4 && !strcmp(argv[4], "private") ? MAP_PRIVATE : MAP_SHARED;
	const char *then = argc > 5 ? argv[5] : "";
	volatile uint32_t *memory;
	uint32_t sum = 0;
	int fd;

	if (!strcmp(node, "dma-heap"))
		fd = from_heap();
	else if (!strcmp(node, "udmabuf"))
		fd = from_udmabuf();
	else
		fd = open(node, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(node);
	memory = mmap(NULL, (size_t)(pages * PAGE), PROT_READ, sharing, fd, offset * PAGE);
	if (memory == MAP_FAILED)
		return fail("mmap");
	if (!strcmp(then, "free") && ioctl(fd, _IO('m', 1)) < 0)
		return fail("ioctl");
	close(fd);
	for (long page = 0; page < pages; page++)
		sum ^= memory[page * PAGE / 4];
	if (!strcmp(then, "vmread")) {
		char copy[64];
		struct iovec local = { copy, sizeof(copy) }, remote = { (void *)memory, sizeof(copy) };

		if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0)
			return fail("process_vm_readv");
	}
	printf("%ld pages read; the first word is %#x, all together %#x\n", pages, memory[0], sum);
	return 0;
}
