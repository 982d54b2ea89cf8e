/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Maps the registers of a device that is switched off. */
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

#define PAGE 4096

int main(void)
{
	const char *device = "/sys/bus/pci/devices/0000:00:02.0";
	volatile unsigned *p;
	unsigned short command;
	char path[99];
	int config, fd;

	snprintf(path, sizeof(path), "%s/config", device);
	config = open(path, O_RDWR);
	if (pread(config, &command, 2, 4) != 2)
		return perror(path), 77;
	/* As the firmware may leave it: it does not answer in memory. */
	command &= ~2;
	pwrite(config, &command, 2, 4);
	snprintf(path, sizeof(path), "%s/resource0", device);
	fd = open(path, O_RDWR | O_SYNC);
	p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return perror("mmap"), 1;
	printf("the first register is %#x\n", p[0]);
	return p[0] == ~0u ? 3 : 0;
}
