/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A 32-bit program: mmap2 takes its offset in pages, in 32 bits, and mapbuf's offsets fit. No C library is needed, nor
 * its headers, so it is built by any 64-bit compiler:
 *
 *     gcc -m32 -static -nostdlib -ffreestanding -fno-stack-protector -fno-pic -no-pie -O1 -I../../include \
 *         -o mmap2_i386 mmap2_i386.c
 *
 * It allocates buffers until one has an mmap_offset of 4 GiB or more (the first has, as packed offsets start there),
 * maps a part of it at that offset and the whole of it by its id, writes through one and reads through the other, and
 * sees that the first page beyond the end is refused. Exits with 0 when all of that held, else with the number of the
 * step that failed.
 */

#include "mapbuf.h"

#define PAGE 4096u
#define PAGES 8u

enum { SYS_EXIT = 1, SYS_WRITE = 4, SYS_OPEN = 5, SYS_IOCTL = 54, SYS_MMAP2 = 192 };
enum { O_RDWR = 2, PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, EINVAL = 22 };

/* Six arguments: the last one travels in ebp, which the compiler does not let us name. */
static long syscall6(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	long last[2] = { number, f };

	__asm__ volatile("pushl %%ebp\n\t"
			 "movl 4(%%eax), %%ebp\n\t"
			 "movl (%%eax), %%eax\n\t"
			 "int $0x80\n\t"
			 "popl %%ebp"
			 : "=a"(result)
			 : "0"(last), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return result;
}

static void say(const char *text)
{
	long length = 0;

	while (text[length])
		length++;
	syscall6(SYS_WRITE, 1, (long)text, length, 0, 0, 0);
}

__attribute__((noreturn)) static void leave(int step, const char *text)
{
	say(text);
	say("\n");
	syscall6(SYS_EXIT, step, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}

static int refused(long result)
{
	return result < 0 && result > -4096;
}

static long map(long fd, uint32_t pages, uint32_t page_offset)
{
	return syscall6(SYS_MMAP2, 0, (long)(pages * PAGE), PROT_READ | PROT_WRITE, MAP_SHARED, fd, (long)page_offset);
}

/* The stack is aligned as the kernel leaves it; nothing here needs more. */
__attribute__((noreturn, used)) void _start(void)
{
	struct mapbuf_alloc alloc = { 0 };
	volatile uint32_t *part, *whole;
	uint32_t first, i;
	long fd, result;

	_Static_assert(sizeof(alloc) == 104, "a 32-bit program sees the same layout");

	fd = syscall6(SYS_OPEN, (long)MAPBUF_SYSTEM_NODE, O_RDWR, 0, 0, 0, 0);
	if (refused(fd))
		leave(1, "/dev/mapbuf/system cannot be opened");

	alloc.size = sizeof(alloc);
	alloc.bytes = PAGES * PAGE;
	alloc.kind = MAPBUF_KIND_VMALLOC;
	alloc.numa_node = MAPBUF_ANY_NODE;
	if (refused(syscall6(SYS_IOCTL, fd, (long)MAPBUF_IOCTL_ALLOC, (long)&alloc, 0, 0, 0)))
		leave(2, "ALLOC was refused");
	if (alloc.mmap_offset >> 32 == 0)
		leave(3, "the mmap_offset lies below 4 GiB: this shows nothing");
	if ((alloc.mmap_offset >> 12) + PAGES > MAPBUF_MAX_OFFSET_PAGES)
		leave(4, "the mmap_offset is out of reach for mmap2");
	first = (uint32_t)(alloc.mmap_offset >> 12);

	/* From page 2 to the end, and the whole by its id. */
	result = map(fd, PAGES - 2, first + 2);
	if (refused(result))
		leave(5, "mmap2 of a part at the mmap_offset was refused");
	part = (volatile uint32_t *)result;
	result = map(fd, PAGES, alloc.id);
	if (refused(result))
		leave(6, "mmap2 at the id was refused");
	whole = (volatile uint32_t *)result;

	for (i = 0; i < PAGES - 2; i++)
		part[i * (PAGE / 4)] = 0xaabbccddu + i;
	for (i = 0; i < PAGES - 2; i++)
		if (whole[(i + 2) * (PAGE / 4)] != 0xaabbccddu + i)
			leave(7, "the part and the whole do not show the same bytes");
	if (whole[0] != 0 || whole[PAGE / 4] != 0)
		leave(8, "the pages before the part were written");

	if (map(fd, PAGES, first + 1) != -EINVAL)
		leave(9, "a mapping that passes the end was not refused with EINVAL");
	if (map(fd, PAGES + 1, alloc.id) != -EINVAL)
		leave(10, "a mapping by the id that passes the end was not refused with EINVAL");
	leave(0, "a 32-bit program maps at offsets above 4 GiB");
}
