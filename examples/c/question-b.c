/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program of question B: it knows nothing of mapbuf but the name of a node. It opens it for reading alone, maps 16
 * pages privately, closes the descriptor, and reads the first word of each page.
 *
 *     gcc -static -o question-b question-b.c
 *     mapbuf create ring --kind vmalloc --size 64K --fill-pages ddccbbaa && ./question-b /dev/mapbuf/named/ring
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 16

int main(int argc, char **argv)
{
	long page_size = sysconf(_SC_PAGESIZE);
	const unsigned char *pages;
	int fd, i, wrong = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: %s NODE\n", argv[0]);
		return 2;
	}
	fd = open(argv[1], O_RDONLY);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	pages = mmap(NULL, PAGES * page_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (pages == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	close(fd);

	for (i = 0; i < PAGES; i++) {
		const unsigned char *at = pages + i * page_size;
		uint32_t word = *(const volatile uint32_t *)at;

		printf("page %2d: %02x %02x %02x %02x = 0x%08x\n", i, at[0], at[1], at[2], at[3], word);
		wrong += word != 0xaabbccddu;
	}
	return wrong ? 1 : 0;
}
