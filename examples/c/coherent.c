/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Question A's program, without mapbuf: asks the driver of examples/drivers/c/dma_mmap_coherent.c for a buffer, maps it
 * by its id, writes, reads, and frees it while it is mapped.
 *
 *     gcc -static -o coherent coherent.c && ./coherent /dev/dma_mmap_coherent [BYTES]
 */

#include "../drivers/c/dma_mmap_coherent.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct my_alloc alloc = { .bytes = argc > 2 ? strtoull(argv[2], NULL, 0) : 64 * 1024 };
	volatile uint32_t *words;
	size_t count, i;
	uint32_t seen;
	int fd, id;

	if (argc < 2) {
		fprintf(stderr, "usage: %s NODE [BYTES]\n", argv[0]);
		return 2;
	}
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	id = ioctl(fd, MY_ALLOC, &alloc);
	if (id < 0) {
		perror("MY_ALLOC");
		return 1;
	}
	/* The id in the offset: this is how the driver finds the buffer. */
	words = mmap(NULL, alloc.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)id * sysconf(_SC_PAGESIZE));
	if (words == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	count = alloc.bytes / sizeof(*words);
	for (i = 0; i < count; i++) {
		if (words[i]) {
			fprintf(stderr, "word %zu of new memory is 0x%08x\n", i, words[i]);
			return 1;
		}
		words[i] = 0xaabbccddu ^ (uint32_t)i;
	}
	for (i = 0; i < count; i += 1024) {
		/* What the kernel sees at the same place. */
		off_t at = ((off_t)id << 32) + (off_t)(i * sizeof(seen));

		if (pread(fd, &seen, sizeof(seen), at) != sizeof(seen) || seen != (0xaabbccddu ^ (uint32_t)i)) {
			fprintf(stderr, "the kernel does not see word %zu\n", i);
			return 1;
		}
	}
	printf("buffer %d: %zu words written, and the kernel sees them\n", id, count);
	if (ioctl(fd, MY_FREE, (unsigned long)id) < 0) {
		perror("MY_FREE");
		return 1;
	}
	for (i = 0; i < count; i++) {
		if (words[i] != (0xaabbccddu ^ (uint32_t)i)) {
			fprintf(stderr, "word %zu has changed after MY_FREE\n", i);
			return 1;
		}
	}
	printf("freed while mapped: every word is still there\n");
	return 0;
}
