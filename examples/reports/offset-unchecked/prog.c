/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps at an offset that the buffer does not have; there is memory of another program, which plays its part itself. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define OTHERS (512L << 20)

/* The frame behind an address. */
static uint64_t frame(int pagemap, const volatile void *address)
{
	uint64_t entry = 0;

	if (pread(pagemap, &entry, 8, (uintptr_t)address / PAGE * 8) != 8)
		return 0;
	return entry & ((1ULL << 55) - 1);
}

int main(void)
{
	int fd = open("/dev/report-offset-unchecked", O_RDWR);
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	FILE *parameter = fopen("/sys/module/offset_unchecked/parameters/first", "r");
	unsigned long first = 0, found = 0;
	char *others = mmap(0, OTHERS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (others == MAP_FAILED)
		return perror("mmap"), 1;
	if (!parameter || fscanf(parameter, "%lu", &first) != 1)
		return perror("parameter"), 1;

	/* As much as is needed to have a frame behind the buffer's. */
	for (long at = 0; at < OTHERS && found <= first; at += PAGE) {
		others[at] = 1;
		found = frame(pagemap, others + at);
	}
	if (found <= first)
		return 77;
	volatile unsigned *p = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, (found - first) * PAGE);

	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	printf("first word %#x\n", p[0]);
	return 0;
}
