/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A mapped file whose file system cannot read it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define PAGE 4096

/* A file system of one file, /file, of a page, which cannot be read. */
static void serve(int fuse)
{
	static char in[1 << 17], out[4096];

	for (;;) {
		struct fuse_in_header *head = (void *)in;
		struct fuse_out_header *answer = (void *)out;
		void *body = out + sizeof(*answer);
		unsigned length = 0;

		if (read(fuse, in, sizeof(in)) <= 0)
			_exit(0);
		memset(out, 0, sizeof(out));
		answer->unique = head->unique;
		switch (head->opcode) {
		case FUSE_INIT:
			*(struct fuse_init_out *)body = (struct fuse_init_out) {
				.major = 7, .minor = 26, .max_write = 4096, .max_readahead = 4096 };
			length = sizeof(struct fuse_init_out);
			break;
		case FUSE_LOOKUP:
			*(struct fuse_entry_out *)body = (struct fuse_entry_out) { .nodeid = 2,
				.attr = { .ino = 2, .size = PAGE, .blocks = 8, .mode = S_IFREG | 0666, .nlink = 1 } };
			length = sizeof(struct fuse_entry_out);
			break;
		case FUSE_GETATTR:
			*(struct fuse_attr_out *)body = (struct fuse_attr_out) { .attr = { .ino = head->nodeid,
				.size = PAGE, .blocks = 8, .nlink = 1,
				.mode = head->nodeid == 1 ? S_IFDIR | 0777 : S_IFREG | 0666 } };
			length = sizeof(struct fuse_attr_out);
			break;
		case FUSE_STATFS:
			*(struct fuse_statfs_out *)body = (struct fuse_statfs_out) { .st = {
				.blocks = 1000, .bfree = 500, .bavail = 500, .bsize = 4096, .frsize = 4096 } };
			length = sizeof(struct fuse_statfs_out);
			break;
		case FUSE_OPEN:
			length = sizeof(struct fuse_open_out);
			break;
		case FUSE_READ:
			answer->error = -EIO;
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
			continue;
		case FUSE_FLUSH:
		case FUSE_RELEASE:
			break;
		default:
			answer->error = -ENOSYS;
		}
		answer->len = sizeof(*answer) + length;
		if (write(fuse, out, answer->len) < 0)
			perror("answer");
	}
}

int main(void)
{
	int fuse = open("/dev/fuse", O_RDWR), fd;
	char options[99];
	volatile char *p;

	if (fuse < 0)
		return 77;
	mkdir("/tmp/unreadable", 0777);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
	if (mount("test", "/tmp/unreadable", "fuse", MS_NODEV | MS_NOSUID, options))
		return perror("mount"), 77;
	if (fork() == 0)
		serve(fuse);
	close(fuse);
	fd = open("/tmp/unreadable/file", O_RDONLY);
	p = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	return p[0];
}
