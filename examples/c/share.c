/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Allocates a buffer, writes to it, and gives it away: its dma-buf descriptor goes over a Unix socket to whoever listens
 * there, and this program ends.
 *
 *     gcc -static -I../../include -o share share.c
 *     ./share pages /tmp/socket
 */

#include "mapbuf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BYTES 65536

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int kind_of(const char *name)
{
	static const struct { const char *name; int kind; } kinds[] = {
		{ "vmalloc", MAPBUF_KIND_VMALLOC },
		{ "pages", MAPBUF_KIND_PAGES },
		{ "contiguous", MAPBUF_KIND_CONTIGUOUS },
		{ "coherent", MAPBUF_KIND_COHERENT },
	};
	unsigned int i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(name, kinds[i].name))
			return kinds[i].kind;
	return -1;
}

/* Connects as soon as somebody listens, for ten seconds. */
static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int tries, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	for (tries = 0; tries < 1000; tries++) {
		if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
			return fd;
		if (errno != ENOENT && errno != ECONNREFUSED)
			return -1;
		usleep(10000);
	}
	return -1;
}

/* A descriptor travels beside at least one byte. */
static int give(int to, int fd)
{
	char byte = 0;
	struct iovec bytes = { .iov_base = &byte, .iov_len = 1 };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr message = {
		.msg_iov = &bytes, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	return sendmsg(to, &message, 0) == 1 ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct mapbuf_alloc alloc = { .size = sizeof(alloc), .bytes = BYTES, .numa_node = MAPBUF_ANY_NODE };
	struct mapbuf_export export = { .size = sizeof(export) };
	int kind = argc == 3 ? kind_of(argv[1]) : -1;
	uint32_t *words;
	int device, to, i;

	if (kind < 0) {
		fprintf(stderr, "usage: %s vmalloc|pages|contiguous|coherent SOCKET\n", argv[0]);
		return 2;
	}
	device = open("/dev/mapbuf/system", O_RDWR | O_CLOEXEC);
	if (device < 0)
		return fail("/dev/mapbuf/system");
	alloc.kind = kind;
	if (ioctl(device, MAPBUF_IOCTL_ALLOC, &alloc))
		return fail("ALLOC");
	words = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, device, alloc.mmap_offset);
	if (words == MAP_FAILED)
		return fail("mmap");
	for (i = 0; i < BYTES / 4; i++)
		words[i] = 0x10000 + i;

	export.id = alloc.id;
	if (ioctl(device, MAPBUF_IOCTL_EXPORT, &export))
		return fail("EXPORT");
	to = connect_to(argv[2]);
	if (to < 0)
		return fail(argv[2]);
	if (give(to, export.fd))
		return fail("sendmsg");
	printf("share: gave %d bytes of kind %s away, and ends\n", BYTES, argv[1]);
	return 0;
}
