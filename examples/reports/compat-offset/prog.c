/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A 32-bit program whose offset of 4 GiB and more lost its upper half. Without a C library: there is none for 32 bits. */
#define OPEN 5
#define EXIT 1
#define MMAP2 192

static const char node[] = "/dev/report-compat-offset";

long sixth;

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	long result;

	sixth = f;
	/* The sixth argument goes where the compiler may keep its frame. */
	asm volatile("push %%ebp\n\tmov sixth, %%ebp\n\tint $0x80\n\tpop %%ebp"
		     : "=a"(result)
		     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
		     : "memory");
	return result;
}

void _start(void)
{
	unsigned long long offset = 0x100000000ull;
	/* Wrong: off_t has 32 bits here. */
	unsigned int short_offset = (unsigned int)offset;
	long fd = call(OPEN, (long)node, 2, 0, 0, 0, 0);
	/* Its number of pages; PROT_READ, MAP_SHARED. */
	long p = call(MMAP2, 0, 4096, 1, 1, fd, short_offset / 4096);

	call(EXIT, p < 0 && p > -4096 ? 1 : 0, 0, 0, 0, 0, 0);
}
