/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Nobody fills the page. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	int fd = syscall(SYS_userfaultfd, 0);
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_SIGBUS };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	volatile char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (fd < 0 || p == MAP_FAILED || ioctl(fd, UFFDIO_API, &api))
		return perror("userfaultfd"), 1;
	range.range.start = (unsigned long)p;
	range.range.len = 4096;
	if (ioctl(fd, UFFDIO_REGISTER, &range))
		return perror("UFFDIO_REGISTER"), 1;
	return p[0];
}
