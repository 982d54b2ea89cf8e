// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A static i386 program without a C library: the driver as a 32-bit program meets it.
 * Its mmap2 has 32 bits of page offset. The structs are written out once more here, from abi/src/wire.rs,
 * so that a layout that differs between word sizes is seen.
 *
 * Exits with 0, or says at which line it found something wrong.
 */
typedef unsigned int u32;
typedef unsigned long long u64;

struct alloc {
	u32 size, flags;
	u64 bytes;
	u32 kind, cache;
	int numa_node;
	u32 id;
	u64 mmap_offset;
	u64 reserved[3];
};

struct info {
	u32 size, flags, id, kind, cache, segments, mappings, freed_held;
	u64 bytes, freed_held_bytes, mmap_offset;
	unsigned char name[64];
	u64 reserved[2];
};

struct id_only {
	u32 size, flags, id, reserved;
};

#define IOWR(nr, type) (3u << 30 | (u32)sizeof(type) << 16 | 0xb9u << 8 | (nr))

enum { EXIT = 1, WRITE = 4, OPEN = 5, CLOSE = 6, IOCTL = 54, MUNMAP = 91, PREAD = 180, MMAP2 = 192 };

static long call(long nr, long a, long b, long c, long d, long e, long f)
{
	/* The sixth argument goes into ebp, which the compiler may be using; not from the stack, which moves. */
	static long sixth;
	long result;

	sixth = f;
	__asm__ volatile("push %%ebp\n\tmov %[f], %%ebp\n\tint $0x80\n\tpop %%ebp"
			 : "=a"(result)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), [f] "m"(sixth)
			 : "memory");
	return result;
}

static void fail(int line)
{
	char text[] = "mmap2.c:0000\n";
	int at = 11;

	for (int rest = line; rest && at > 7; rest /= 10)
		text[at--] = '0' + rest % 10;
	call(WRITE, 1, (long)text, 13, 0, 0, 0);
	call(EXIT, 1, 0, 0, 0, 0, 0);
}

#define CHECK(condition)                \
	do {                            \
		if (!(condition))       \
			fail(__LINE__); \
	} while (0)

static volatile u32 *map(int fd, u32 pages, u64 offset)
{
	long start = call(MMAP2, 0, pages * 4096, 3 /* read, write */, 1 /* shared */, fd, (long)(u32)(offset >> 12));

	return start < 0 && start > -4096 ? 0 : (volatile u32 *)start;
}

static void run(void)
{
	int fd = call(OPEN, (long)"/dev/mapbuf/system", 2, 0, 0, 0, 0);

	CHECK(fd >= 0);
	for (u32 kind = 1; kind <= 4; kind++) {
		struct alloc alloc = { .size = sizeof(alloc), .bytes = 16 * 4096, .kind = kind, .numa_node = -1 };
		struct info info = { .size = sizeof(info) };
		struct id_only gone = { .size = sizeof(gone) };
		volatile u32 *by_id, *whole, *part;
		u32 word;

		CHECK(sizeof(alloc) == 64 && sizeof(info) == 136 && sizeof(gone) == 16);
		CHECK(call(IOCTL, fd, IOWR(1, alloc), (long)&alloc, 0, 0, 0) == 0);
		CHECK(alloc.id && alloc.bytes == 16 * 4096);
		/* Above the ids, and within 32 bits of pages. */
		CHECK(alloc.mmap_offset >> 12 >= 1 << 20 && alloc.mmap_offset >> 44 == 0);

		by_id = map(fd, 16, (u64)alloc.id << 12);
		CHECK(by_id);
		whole = map(fd, 16, alloc.mmap_offset);
		CHECK(whole && whole != by_id);
		part = map(fd, 3, alloc.mmap_offset + 5 * 4096);
		CHECK(part);
		for (u32 page = 0; page < 16; page++)
			by_id[page * 1024] = 0x1000 * kind + page;
		for (u32 page = 0; page < 16; page++)
			CHECK(whole[page * 1024] == 0x1000 * kind + page);
		for (u32 page = 0; page < 3; page++)
			CHECK(part[page * 1024] == 0x1000 * kind + 5 + page);
		CHECK(!map(fd, 17, alloc.mmap_offset));
		CHECK(!map(fd, 1, 0));
		CHECK(!map(fd, 1, 0xffffffffull << 12));

		/* pread64 takes its offset in two halves. */
		CHECK(call(PREAD, fd, (long)&word, 4, (long)(u32)(alloc.mmap_offset + 7 * 4096),
			   (long)(u32)((alloc.mmap_offset + 7 * 4096) >> 32), 0) == 4);
		CHECK(word == 0x1000 * kind + 7);

		info.id = alloc.id;
		CHECK(call(IOCTL, fd, IOWR(3, info), (long)&info, 0, 0, 0) == 0);
		CHECK(info.kind == kind && info.bytes == 16 * 4096 && info.mappings == 3);
		CHECK(info.mmap_offset == alloc.mmap_offset);

		gone.id = alloc.id;
		CHECK(call(IOCTL, fd, IOWR(2, gone), (long)&gone, 0, 0, 0) == 0);
		CHECK(!map(fd, 16, (u64)alloc.id << 12));
		CHECK(by_id[1024] == 0x1000 * kind + 1);
		CHECK(call(MUNMAP, (long)by_id, 16 * 4096, 0, 0, 0, 0) == 0);
		CHECK(whole[1024] == 0x1000 * kind + 1);
	}
	CHECK(call(CLOSE, fd, 0, 0, 0, 0, 0) == 0);
	call(EXIT, 0, 0, 0, 0, 0, 0);
}

void _start(void)
{
	run();
	for (;;)
		;
}
