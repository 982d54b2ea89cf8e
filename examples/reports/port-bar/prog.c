/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps a BAR that is I/O ports. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <sys/mman.h>

int main(void)
{
	glob_t found;
	size_t at;

	if (glob("/sys/bus/pci/devices/*/resource", 0, NULL, &found))
		return perror("glob"), 1;
	for (at = 0; at < found.gl_pathc; at++) {
		FILE *file = fopen(found.gl_pathv[at], "r");
		unsigned long first, last, flags;
		int bar;

		for (bar = 0; file && bar < 6 && fscanf(file, "%lx %lx %lx", &first, &last, &flags) == 3; bar++) {
			char path[256];
			int fd;

			if (!(flags & 0x100))
				continue;
			snprintf(path, sizeof(path), "%s%d", found.gl_pathv[at], bar);
			fd = open(path, O_RDWR);
			if (fd < 0)
				continue;
			if (mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
				return perror("mmap"), 1;
		}
	}
	return 0;
}
