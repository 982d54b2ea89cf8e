/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Uses a dma-buf, whoever's it is: it takes a descriptor from a Unix socket, waits for the end of the process that sent it,
 * and only then maps it. There is not a line about mapbuf in here.
 *
 *     gcc -static -o dma-buf dma-buf.c
 *     ./dma-buf /tmp/socket & ./share pages /tmp/socket; wait
 */

#define _GNU_SOURCE
#include <linux/dma-buf.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

/* The next one who connects. */
static int caller(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
		return -1;
	return accept4(fd, NULL, NULL, SOCK_CLOEXEC);
}

static int take(int from)
{
	char byte;
	struct iovec bytes = { .iov_base = &byte, .iov_len = 1 };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = {
		.msg_iov = &bytes, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *header;
	int fd;

	if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

/* Waits until the process at the other end has ended. */
static int outlive(int socket)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);
	struct pollfd end = { .events = POLLIN };

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length))
		return -1;
	end.fd = syscall(SYS_pidfd_open, peer.pid, 0);
	/* No such process: it has ended, and somebody knows. */
	return end.fd < 0 || poll(&end, 1, 10000) == 1 ? 0 : -1;
}

/* The line of /proc/self/maps for an address, from the permissions on. */
static void show_line(const void *at)
{
	char line[512], start[32];
	FILE *maps = fopen("/proc/self/maps", "r");

	snprintf(start, sizeof(start), "%lx-", (unsigned long)at);
	while (maps && fgets(line, sizeof(line), maps))
		if (!strncmp(line, start, strlen(start)))
			printf("dma-buf: in /proc/self/maps:%s", strchr(line, ' '));
	if (maps)
		fclose(maps);
}

static int sync_cpu(int fd, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
}

int main(int argc, char **argv)
{
	uint32_t *words;
	off_t size, i;
	int socket, fd;

	if (argc != 2) {
		fprintf(stderr, "usage: %s SOCKET\n", argv[0]);
		return 2;
	}
	socket = caller(argv[1]);
	if (socket < 0)
		return fail(argv[1]);
	fd = take(socket);
	if (fd < 0)
		return fail("recvmsg");
	if (outlive(socket))
		return fail("the sender does not end");

	size = lseek(fd, 0, SEEK_END);
	if (size <= 0)
		return fail("lseek");
	words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (words == MAP_FAILED)
		return fail("mmap");
	printf("dma-buf: the sender has ended; %ld bytes are mapped\n", (long)size);
	show_line(words);

	if (sync_cpu(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW))
		return fail("DMA_BUF_IOCTL_SYNC");
	for (i = 0; i < size / 4; i++) {
		if (words[i] != 0x10000 + i) {
			fprintf(stderr, "word %ld is %#x\n", (long)i, words[i]);
			return 1;
		}
		words[i] = ~words[i];
	}
	if (sync_cpu(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW))
		return fail("DMA_BUF_IOCTL_SYNC");

	/* A second mapping, which alone holds the memory once the descriptor is closed. */
	munmap(words, size);
	words = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (words == MAP_FAILED)
		return fail("mmap");
	close(fd);
	for (i = 0; i < size / 4; i++)
		if (words[i] != ~(uint32_t)(0x10000 + i))
			return 1;
	printf("dma-buf: all %ld words read, inverted, and read again\n", (long)(size / 4));
	return 0;
}
