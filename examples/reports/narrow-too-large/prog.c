/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A 32-bit program that wants to map nearly 4 GiB at once. Without a C library: there is none for 32 bits. */
#define EXIT 1
#define MMAP2 192

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
	/* PROT_NONE; MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE. */
	long p = call(MMAP2, 0, 0xf0000000, 0, 0x4022, -1, 0);

	call(EXIT, p < 0 && p > -4096 ? 1 : 0, 0, 0, 0, 0, 0);
}
