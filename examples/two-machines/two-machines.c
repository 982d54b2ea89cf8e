/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One buffer on each of two machines, and RDMA between them: the first writes into the memory of the second (RDMA WRITE), and
 * reads what the second puts there (RDMA READ). The second one's processor takes no part in either.
 *
 *     gcc -O2 -o two-machines two-machines.c -libverbs
 *     second$ ./two-machines serve pages
 *     first$  ./two-machines drive pages ADDRESS-OF-SECOND
 *
 * The buffer is handed to the card by its dma-buf where the card's driver takes one (ibv_reg_dmabuf_mr), else by the address
 * where it is mapped (ibv_reg_mr). What the two tell each other beforehand goes over TCP. Both are x86-64: numbers go over as
 * they lie in memory.
 */

#include "mapbuf.h"
#include "mapbuf-explain.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define BYTES	(4u << 20)
#define WORDS	(BYTES / sizeof(uint64_t))
#define TCP	"18600"
#define PORT	1
#define RIGHTS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ)

/* What the other machine must know. */
struct card {
	union ibv_gid gid;
	uint64_t address;
	uint32_t key;
	uint32_t pair;
};

/* What one tells the other while they work: the bytes of this seed are in your memory. */
struct word {
	uint64_t seed;
};

struct end {
	struct ibv_context *context;
	struct ibv_pd *domain;
	struct ibv_cq *queue;
	struct ibv_qp *pair;
	struct ibv_mr *region;
	int index;
	uint64_t *memory;
	struct card own, other;
	int tcp;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void refused(int device, const char *what)
{
	char text[512];
	int code = errno;

	mapbuf_explain_last(device, text, sizeof(text));
	fprintf(stderr, "%s: %s\n%s\n", what, strerror(code), text);
	exit(1);
}

/* What the word at an index is, for a seed. */
static uint64_t value(uint64_t seed, uint64_t index)
{
	uint64_t x = seed + index * 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static void fill(volatile uint64_t *memory, uint64_t seed)
{
	size_t i;

	for (i = 0; i < WORDS; i++)
		memory[i] = value(seed, i);
}

static void verify(const volatile uint64_t *memory, uint64_t seed, const char *how)
{
	size_t i;

	for (i = 0; i < WORDS; i++) {
		if (memory[i] != value(seed, i)) {
			fprintf(stderr, "%s: word %zu is 0x%016llx\n", how, i, (unsigned long long)memory[i]);
			exit(1);
		}
	}
	printf("%s: all %u bytes are there\n", how, BYTES);
	fflush(stdout);
}

static uint64_t new_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		die("getrandom");
	return seed;
}

static void say(int tcp, const void *bytes, size_t count)
{
	if (send(tcp, bytes, count, MSG_NOSIGNAL) != (ssize_t)count)
		die("send");
}

static void hear(int tcp, void *bytes, size_t count)
{
	ssize_t got = recv(tcp, bytes, count, MSG_WAITALL);

	if (got != (ssize_t)count) {
		fprintf(stderr, "the other machine has gone\n");
		exit(1);
	}
}

/* A buffer of this kind, mapped; `dma_buf` is its descriptor. */
static uint64_t *allocate(const char *kind, int *dma_buf)
{
	static const char *const names[] = { "vmalloc", "pages", "contiguous", "coherent" };
	static const uint32_t kinds[] = { MAPBUF_KIND_VMALLOC, MAPBUF_KIND_PAGES, MAPBUF_KIND_CONTIGUOUS,
					  MAPBUF_KIND_COHERENT };
	struct mapbuf_alloc alloc = { .size = sizeof(alloc), .bytes = BYTES, .numa_node = MAPBUF_ANY_NODE };
	struct mapbuf_export export = { .size = sizeof(export) };
	uint64_t *memory;
	size_t i;
	int device;

	for (i = 0; i < 4 && strcmp(kind, names[i]); i++)
		;
	if (i == 4) {
		fprintf(stderr, "%s is no kind of memory\n", kind);
		exit(2);
	}
	alloc.kind = kinds[i];
	device = open("/dev/mapbuf/system", O_RDWR | O_CLOEXEC);
	if (device < 0)
		die("/dev/mapbuf/system");
	if (ioctl(device, MAPBUF_IOCTL_ALLOC, &alloc))
		refused(device, "ALLOC");
	export.id = alloc.id;
	if (ioctl(device, MAPBUF_IOCTL_EXPORT, &export))
		refused(device, "EXPORT");
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, device,
		      (off_t)alloc.id * sysconf(_SC_PAGESIZE));
	if (memory == MAP_FAILED)
		refused(device, "mmap");
	*dma_buf = export.fd;
	return memory;
}

/* The address of the card that routers and switches for IPv4 know (RoCE v2). */
static int ipv4(struct ibv_context *context, union ibv_gid *gid)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
	struct ibv_gid_entry entry;
	int index;

	for (index = 0; index < 256; index++) {
		if (ibv_query_gid_ex(context, PORT, index, &entry, 0))
			continue;
		if (entry.gid_type == IBV_GID_TYPE_ROCE_V2 && !memcmp(entry.gid.raw, prefix, sizeof(prefix))) {
			*gid = entry.gid;
			return index;
		}
	}
	fprintf(stderr, "the card has no IPv4 address\n");
	exit(1);
}

static void register_memory(struct end *end, int dma_buf)
{
	int code;

	end->region = ibv_reg_dmabuf_mr(end->domain, 0, BYTES, (uintptr_t)end->memory, dma_buf, RIGHTS);
	if (end->region) {
		printf("registered by its dma-buf\n");
		return;
	}
	code = errno;
	if (code != EOPNOTSUPP && code != EPROTONOSUPPORT)
		die("ibv_reg_dmabuf_mr");
	end->region = ibv_reg_mr(end->domain, end->memory, BYTES, RIGHTS);
	if (!end->region)
		die("ibv_reg_mr");
	printf("registered where it is mapped (by its dma-buf: %s)\n", strerror(code));
	fflush(stdout);
}

static void prepare(struct end *end, const char *kind)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_qp_init_attr attributes = { .qp_type = IBV_QPT_RC };
	int dma_buf;

	if (!list || !list[0]) {
		fprintf(stderr, "there is no card for RDMA\n");
		exit(1);
	}
	end->context = ibv_open_device(list[0]);
	if (!end->context)
		die("ibv_open_device");
	ibv_free_device_list(list);
	end->domain = ibv_alloc_pd(end->context);
	end->queue = ibv_create_cq(end->context, 4, NULL, NULL, 0);
	if (!end->domain || !end->queue)
		die("ibv_alloc_pd, ibv_create_cq");
	attributes.send_cq = attributes.recv_cq = end->queue;
	attributes.cap.max_send_wr = attributes.cap.max_recv_wr = 2;
	attributes.cap.max_send_sge = attributes.cap.max_recv_sge = 1;
	end->pair = ibv_create_qp(end->domain, &attributes);
	if (!end->pair)
		die("ibv_create_qp");
	end->memory = allocate(kind, &dma_buf);
	register_memory(end, dma_buf);
	end->index = ipv4(end->context, &end->own.gid);
	end->own.address = (uintptr_t)end->memory;
	end->own.key = end->region->rkey;
	end->own.pair = end->pair->qp_num;
}

/* Exchanges cards, and brings the pair of queues to where it may send. */
static void meet(struct end *end)
{
	struct ibv_qp_attr attributes = { .qp_state = IBV_QPS_INIT, .port_num = PORT, .qp_access_flags = RIGHTS };

	say(end->tcp, &end->own, sizeof(end->own));
	hear(end->tcp, &end->other, sizeof(end->other));
	if (ibv_modify_qp(end->pair, &attributes,
			  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS))
		die("INIT");
	memset(&attributes, 0, sizeof(attributes));
	attributes.qp_state = IBV_QPS_RTR;
	attributes.path_mtu = IBV_MTU_1024;
	attributes.dest_qp_num = end->other.pair;
	attributes.max_dest_rd_atomic = 1;
	attributes.min_rnr_timer = 12;
	attributes.ah_attr.is_global = 1;
	attributes.ah_attr.port_num = PORT;
	attributes.ah_attr.grh.dgid = end->other.gid;
	attributes.ah_attr.grh.sgid_index = end->index;
	attributes.ah_attr.grh.hop_limit = 64;
	if (ibv_modify_qp(end->pair, &attributes,
			  IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			  IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
		die("RTR");
	attributes.qp_state = IBV_QPS_RTS;
	attributes.timeout = 18;
	attributes.retry_cnt = attributes.rnr_retry = 7;
	attributes.max_rd_atomic = 1;
	if (ibv_modify_qp(end->pair, &attributes,
			  IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
			  IBV_QP_MAX_QP_RD_ATOMIC))
		die("RTS");
	/* Nothing is sent before the other one takes it. */
	say(end->tcp, "+", 1);
	hear(end->tcp, &(char){ 0 }, 1);
}

/* All of the memory, from here to there or from there to here. */
static void move(struct end *end, enum ibv_wr_opcode opcode)
{
	struct ibv_sge piece = { .addr = (uintptr_t)end->memory, .length = BYTES, .lkey = end->region->lkey };
	struct ibv_send_wr request = { .opcode = opcode, .sg_list = &piece, .num_sge = 1,
				       .send_flags = IBV_SEND_SIGNALED }, *bad;
	struct ibv_wc done;
	int number;

	request.wr.rdma.remote_addr = end->other.address;
	request.wr.rdma.rkey = end->other.key;
	errno = ibv_post_send(end->pair, &request, &bad);
	if (errno)
		die("ibv_post_send");
	while (!(number = ibv_poll_cq(end->queue, 1, &done)))
		;
	if (number < 0 || done.status != IBV_WC_SUCCESS) {
		fprintf(stderr, "the transfer failed: %s\n", number < 0 ? "no answer" : ibv_wc_status_str(done.status));
		exit(1);
	}
}

static void serve(struct end *end)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(atoi(TCP)) };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct word word;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof(any)) || listen(listener, 1))
		die("listen");
	printf("waiting\n");
	fflush(stdout);
	end->tcp = accept(listener, NULL, NULL);
	if (end->tcp < 0)
		die("accept");
	meet(end);
	hear(end->tcp, &word, sizeof(word));
	verify(end->memory, word.seed, "written by the first machine (RDMA WRITE)");
	word.seed = new_seed();
	fill(end->memory, word.seed);
	say(end->tcp, &word, sizeof(word));
	/* The memory must be there until it has been read. */
	hear(end->tcp, &word, sizeof(word));
}

static void drive(struct end *end, const char *host)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found;
	struct word word = { .seed = new_seed() };

	if (getaddrinfo(host, TCP, &hints, &found)) {
		fprintf(stderr, "%s has no address\n", host);
		exit(1);
	}
	end->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* The other machine may still be about to start. */
	while (end->tcp < 0 || connect(end->tcp, found->ai_addr, found->ai_addrlen)) {
		if (errno != ECONNREFUSED && errno != EHOSTUNREACH && errno != ETIMEDOUT)
			die(host);
		sleep(1);
	}
	freeaddrinfo(found);
	meet(end);
	fill(end->memory, word.seed);
	move(end, IBV_WR_RDMA_WRITE);
	say(end->tcp, &word, sizeof(word));
	hear(end->tcp, &word, sizeof(word));
	move(end, IBV_WR_RDMA_READ);
	verify(end->memory, word.seed, "read from the second machine (RDMA READ)");
	say(end->tcp, &word, sizeof(word));
}

int main(int argc, char **argv)
{
	struct end end = { 0 };

	if (!(argc == 3 && !strcmp(argv[1], "serve")) && !(argc == 4 && !strcmp(argv[1], "drive"))) {
		fprintf(stderr, "usage: %s serve KIND, or %s drive KIND HOST\n", argv[0], argv[0]);
		return 2;
	}
	prepare(&end, argv[2]);
	if (argc == 3)
		serve(&end);
	else
		drive(&end, argv[3]);
	return 0;
}
