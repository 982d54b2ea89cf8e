/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Maps a node as any program would, and shows that the kernel and the program see the same bytes.
 *
 *     gcc -static -o try try.c && ./try [NODE [BYTES]]
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *node = argc > 1 ? argv[1] : "/dev/fault_page";
	size_t bytes = argc > 2 ? strtoul(argv[2], NULL, 0) : 65536;
	char seen[32] = "";
	char *memory;
	int fd;

	fd = open(node, O_RDWR);
	if (fd < 0) {
		perror(node);
		return 1;
	}
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	printf("%s: %zu bytes mapped\n", node, bytes);

	/* To the program it is memory like any other. */
	strcpy(memory, "hello, kernel");
	if (pread(fd, seen, sizeof(seen) - 1, 0) < 0) {
		perror("read");
		return 1;
	}
	printf("the program wrote, the driver reads: %s\n", seen);
	if (strcmp(seen, "hello, kernel"))
		return 1;

	if (pwrite(fd, "hello, program", 15, 0) != 15) {
		perror("write");
		return 1;
	}
	printf("the driver wrote, the program reads: %s\n", memory);
	if (strcmp(memory, "hello, program"))
		return 1;

	/* The mapping holds what it needs. */
	close(fd);
	memory[bytes - 1] = '!';
	printf("closed; the last byte is '%c'\n", memory[bytes - 1]);
	return munmap(memory, bytes);
}
