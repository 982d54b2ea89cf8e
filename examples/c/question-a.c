/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The small user program: asks the driver for DMA-coherent memory, maps it by its id, writes, reads, checks, frees.
 *
 *     gcc -static -I../../include -o question-a question-a.c && ./question-a [KIND [BYTES]]
 *
 * KIND is a number of enum mapbuf_kind. Prints one line per step; exits with 0 when every check held.
 */

#include "mapbuf-explain.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

static int fail(int fd, const char *what)
{
	char why[512];

	mapbuf_explain_last(fd, why, sizeof(why));
	fprintf(stderr, "%s: %s\n", what, why);
	return 1;
}

/* A word that is different at every place, so that a page in the wrong place is seen. */
static uint32_t pattern(size_t index)
{
	return 0xaabbccddu ^ (uint32_t)(index * 2654435761u);
}

int main(int argc, char **argv)
{
	struct mapbuf_alloc alloc = {
		.size = sizeof(alloc),
		.bytes = argc > 2 ? strtoull(argv[2], NULL, 0) : 64 * 1024,
		.kind = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : MAPBUF_KIND_COHERENT,
		.cache = MAPBUF_CACHE_CACHED,
		.numa_node = MAPBUF_ANY_NODE,
	};
	struct mapbuf_free free_it = { .size = sizeof(free_it) };
	off_t page = sysconf(_SC_PAGESIZE);
	volatile uint32_t *words;
	uint32_t seen;
	size_t count, i;
	int fd;

	fd = open(MAPBUF_SYSTEM_NODE, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		perror(MAPBUF_SYSTEM_NODE);
		return 1;
	}
	if (ioctl(fd, MAPBUF_IOCTL_ALLOC, &alloc) < 0)
		return fail(fd, "ALLOC");
	printf("allocated %" PRIu64 " bytes of kind %s as buffer %" PRIu32 "\n", alloc.bytes,
	       mapbuf_kind_name(alloc.kind), alloc.id);

	/* The id in the offset: this is how the driver finds the buffer. */
	words = mmap(NULL, alloc.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)alloc.id * page);
	if (words == MAP_FAILED)
		return fail(fd, "mmap");
	count = alloc.bytes / sizeof(*words);
	for (i = 0; i < count; i++) {
		if (words[i] != 0) {
			fprintf(stderr, "word %zu of new memory is 0x%08" PRIx32 ", not 0\n", i, words[i]);
			return 1;
		}
	}
	for (i = 0; i < count; i++)
		words[i] = pattern(i);

	/* What the kernel sees at the same places; the mmap_offset has room for bytes, the id's offset has not. */
	for (i = 0; i < count; i += 1024) {
		if (pread(fd, &seen, sizeof(seen), (off_t)(alloc.mmap_offset + i * sizeof(seen))) != sizeof(seen))
			return fail(fd, "pread");
		if (seen != pattern(i)) {
			fprintf(stderr, "the kernel sees 0x%08" PRIx32 " at word %zu, not 0x%08" PRIx32 "\n", seen, i,
				pattern(i));
			return 1;
		}
	}
	printf("wrote %zu words through the mapping, and the kernel sees them\n", count);

	/* Freed while mapped: the id is gone, the memory is not. */
	free_it.id = alloc.id;
	if (ioctl(fd, MAPBUF_IOCTL_FREE, &free_it) < 0)
		return fail(fd, "FREE");
	for (i = 0; i < count; i++) {
		if (words[i] != pattern(i)) {
			fprintf(stderr, "word %zu is 0x%08" PRIx32 " after FREE, not 0x%08" PRIx32 "\n", i, words[i],
				pattern(i));
			return 1;
		}
	}
	printf("freed while mapped: every word is still there\n");

	/* And a refusal, for the sake of its words. */
	if (ioctl(fd, MAPBUF_IOCTL_FREE, &free_it) == 0) {
		fprintf(stderr, "the same id could be freed twice\n");
		return 1;
	}
	{
		char why[512];

		mapbuf_explain_last(fd, why, sizeof(why));
		printf("freed once more, refused: %s\n", why);
	}
	munmap((void *)words, alloc.bytes);
	close(fd);
	return 0;
}
