/*
 * The floor: what a pair of this shape costs with no safety at all. A measure for `make bench`, not a product.
 *
 *     floor SOCKET LOCAL REMOTE SIZE_BYTES
 *
 * Two processes with the data path of a hastd pair: one speaks NBD on a UNIX socket, sends each write over TCP to the
 * other and writes LOCAL; that one writes REMOTE and acknowledges; the client has its answer when both did. One thread
 * and one epoll each, batches as they arrive, the same polling before sleep. There is no map, no order of overlapping
 * writes, no reconnection, one client at a time; whatever fails ends it.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { READ, WRITE, DISC, FLUSH };
enum { MAX_DATA = 32 << 20, BUFFER = MAX_DATA + (8 << 20), VECTORS = 1024, POLL_US = 150 };

struct request { uint32_t magic; uint16_t flags, type; uint64_t cookie, offset; uint32_t length; } __attribute__((packed));
struct reply { uint32_t magic, error; uint64_t cookie; } __attribute__((packed));
struct buffer { char *data; size_t start, end; };
struct out { struct iovec vectors[VECTORS]; int first, count; };

static int epoll_fd;

static void check(int good, const char *what) { if (!good) err(1, "floor: %s", what); }

static struct buffer new_buffer(void)
{
	struct buffer made = { malloc(BUFFER), 0, 0 };
	check(made.data != NULL, "malloc");
	return made;
}

/* 0 at the end of the stream, -1 with nothing there, else how many bytes came. */
static ssize_t receive(int fd, struct buffer *in)
{
	if (in->start == in->end) in->start = in->end = 0;
	if (in->start > 0 && BUFFER - in->start < MAX_DATA + sizeof(struct request)) {
		memmove(in->data, in->data + in->start, in->end - in->start);
		in->end -= in->start;
		in->start = 0;
	}
	ssize_t got = recv(fd, in->data + in->end, BUFFER - in->end, MSG_DONTWAIT);
	if (got > 0) in->end += got;
	return got < 0 && errno != EAGAIN && errno != EINTR ? 0 : got;
}

static void add(struct out *out, void *data, size_t length)
{
	out->vectors[out->count].iov_base = data;
	out->vectors[out->count++].iov_len = length;
}

/* Sends what it can; 1 when all is gone. */
static int drain(int fd, struct out *out)
{
	while (out->first < out->count) {
		struct msghdr message = { .msg_iov = out->vectors + out->first, .msg_iovlen = out->count - out->first };
		ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0) {
			check(errno == EAGAIN || errno == EINTR || errno == EPIPE || errno == ECONNRESET, "sendmsg");
			if (errno == EAGAIN) return 0;
			if (errno != EINTR) break;
			continue;
		}
		while (sent > 0) {
			struct iovec *head = &out->vectors[out->first];
			size_t part = (size_t)sent < head->iov_len ? (size_t)sent : head->iov_len;
			head->iov_base = (char *)head->iov_base + part;
			head->iov_len -= part;
			sent -= part;
			if (head->iov_len == 0) out->first++;
		}
	}
	out->first = out->count = 0;
	return 1;
}

/* Both to their end, at the pace of whoever takes it. */
static void drain_both(int one, struct out *to_one, int two, struct out *to_two)
{
	for (;;) {
		int done_one = drain(one, to_one), done_two = drain(two, to_two);
		if (done_one && done_two) return;
		struct pollfd room[2] = { { done_one ? -1 : one, POLLOUT, 0 }, { done_two ? -1 : two, POLLOUT, 0 } };
		poll(room, 2, -1);
	}
}

static void watch(int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
	check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static int64_t now_us(void)
{
	struct timespec now;
	check(clock_gettime(CLOCK_MONOTONIC, &now) == 0, "clock_gettime");
	return now.tv_sec * 1000000ll + now.tv_nsec / 1000;
}

/* Polls for a while, giving way in between, before it sleeps. */
static int wait_events(struct epoll_event *events, int count)
{
	int got;
	for (int64_t end_us = now_us() + POLL_US;;) {
		got = epoll_wait(epoll_fd, events, count, 0);
		if (got != 0 || now_us() >= end_us) break;
		sched_yield();
	}
	return got ? got : epoll_wait(epoll_fd, events, count, -1);
}

/* The next whole request in the buffer, or NULL. */
static struct request *next(struct buffer *in)
{
	struct request *head = (struct request *)(in->data + in->start);
	if (in->end - in->start < sizeof *head) return NULL;
	size_t data = be16toh(head->type) == WRITE ? be32toh(head->length) : 0;
	if (be32toh(head->magic) != 0x25609513 || data > MAX_DATA) errx(1, "floor: not a request");
	if (in->end - in->start < sizeof *head + data) return NULL;
	in->start += sizeof *head + data;
	return head;
}

static void store(int file, struct request *head)
{
	ssize_t length = be32toh(head->length);
	if (be16toh(head->type) == FLUSH)
		check(fdatasync(file) == 0, "fdatasync");
	else
		check(pwrite(file, head + 1, length, be64toh(head->offset)) == length, "pwrite");
}

static void secondary(int peer, int file)
{
	struct buffer in = new_buffer();
	struct out out = { .count = 0 };
	struct reply replies[VECTORS];
	struct epoll_event event;
	watch(peer);
	for (int count = 0;;) {
		if (count < VECTORS && wait_events(&event, 1) > 0 && receive(peer, &in) == 0) exit(0);
		count = 0;
		for (struct request *head; count < VECTORS && (head = next(&in)) != NULL; count++) {
			store(file, head);
			replies[count] = (struct reply){ htobe32(0x67446698), 0, head->cookie };
		}
		if (count > 0) add(&out, replies, count * sizeof *replies);
		drain_both(peer, &out, peer, &out);
	}
}

static int has_read(int fd, void *data, size_t length) { return recv(fd, data, length, MSG_WAITALL) == (ssize_t)length; }

static void say(int fd, const void *data, size_t length) { (void)!send(fd, data, length, MSG_NOSIGNAL); }
static void option_reply(int fd, uint32_t option, uint32_t type, const void *data, uint32_t length)
{
	struct { uint64_t magic; uint32_t option, type, length; } __attribute__((packed)) head = {
		htobe64(0x3e889045565a9), htobe32(option), htobe32(type), htobe32(length) };
	say(fd, &head, sizeof head);
	if (length) say(fd, data, length);
}

/* Fixed newstyle with GO, or EXPORT_NAME without zeroes; 1 when requests may come. */
static int shake_hands(int fd, uint64_t size)
{
	struct { uint64_t magic, option_magic; uint16_t flags; } __attribute__((packed)) hello = {
		htobe64(0x4e42444d41474943), htobe64(0x49484156454f5054), htobe16(1 | 2) };
	struct { uint16_t info; uint64_t size; uint16_t flags; } __attribute__((packed)) export = {
		0, htobe64(size), htobe16(1 | 4) }; /* flags are there, FLUSH */
	struct { uint64_t magic; uint32_t option, length; } __attribute__((packed)) asked;
	uint32_t flags;
	char data[65536];
	say(fd, &hello, sizeof hello);
	if (!has_read(fd, &flags, sizeof flags)) return 0;
	while (has_read(fd, &asked, sizeof asked)) {
		uint32_t option = be32toh(asked.option), length = be32toh(asked.length);
		if (length > sizeof data || (length && !has_read(fd, data, length)) || option == 2) return 0;
		if (option == 1) say(fd, &export.size, sizeof export - sizeof export.info);
		if (option == 1) return 1;
		if (option == 7) option_reply(fd, option, 3, &export, sizeof export);
		option_reply(fd, option, option == 7 ? 1 : 0x80000001, NULL, 0);
		if (option == 7) return 1;
	}
	return 0;
}

/* One client, from its first request to its last. Both outputs point into buffers that stay until they are gone. */
static void serve(int client, int peer, int file)
{
	static struct buffer in, acks, found;
	static struct out to_peer, to_client;
	static struct reply answers[VECTORS];
	if (in.data == NULL) in = new_buffer(), acks = new_buffer(), found = new_buffer();
	in.start = in.end = to_client.first = to_client.count = 0;
	struct epoll_event events[2];
	int under_way = 0, leaving = 0, held = 0;
	watch(client);
	while (!leaving || under_way > 0) {
		int count = held ? 0 : wait_events(events, 2), answered = 0;
		held = 0;
		for (int each = 0; each < count; each++) {
			if (events[each].data.fd == peer && receive(peer, &acks) == 0) errx(1, "floor: the secondary is gone");
			if (events[each].data.fd == client && receive(client, &in) == 0) leaving = 1;
		}
		for (; acks.end - acks.start >= sizeof *answers && answered < VECTORS; acks.start += sizeof *answers)
			memcpy(&answers[answered++], acks.data + acks.start, sizeof *answers);
		under_way -= answered;
		if (answered > 0) add(&to_client, answers, answered * sizeof *answers);
		struct request *batch[VECTORS / 4];
		struct reply heads[VECTORS / 4];
		int writes = 0, reads = 0;
		size_t filled = 0;
		struct request *head;
		while (!leaving && writes + reads < VECTORS / 4 && filled < BUFFER - MAX_DATA && (head = next(&in)) != NULL) {
			uint32_t length = be32toh(head->length);
			int type = be16toh(head->type);
			if (type > FLUSH || length > MAX_DATA) errx(1, "floor: request %d of %u bytes", type, length);
			if (type == DISC) leaving = 1;
			if (type == READ) {
				check(pread(file, found.data + filled, length, be64toh(head->offset)) == length, "pread");
				heads[reads] = (struct reply){ htobe32(0x67446698), 0, head->cookie };
				add(&to_client, &heads[reads++], sizeof *heads);
				add(&to_client, found.data + filled, length);
				filled += length;
			} else if (type == WRITE || type == FLUSH) {
				add(&to_peer, head, sizeof *head + (type == WRITE ? length : 0));
				batch[writes++] = head;
			}
		}
		held = writes + reads == VECTORS / 4 || filled >= BUFFER - MAX_DATA || answered == VECTORS;
		under_way += writes;
		drain(peer, &to_peer);
		for (int each = 0; each < writes; each++) store(file, batch[each]);
		drain_both(peer, &to_peer, client, &to_client);
	}
}

static int connect_tcp(int file)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0), peer = socket(AF_INET, SOCK_STREAM, 0);
	check(bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 1) == 0, "listen");
	check(getsockname(listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
	check(connect(peer, (struct sockaddr *)&address, length) == 0, "connect");
	int other = accept(listener, NULL, NULL);
	check(other >= 0, "accept");
	setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(other, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	pid_t child = fork();
	check(child >= 0 && close(listener) == 0, "fork");
	epoll_fd = epoll_create1(0);
	check(epoll_fd >= 0, "epoll_create1");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(peer);
		secondary(other, file);
	}
	close(other);
	return peer;
}

int main(int argc, char **argv)
{
	if (argc != 5) errx(2, "usage: floor SOCKET LOCAL REMOTE SIZE_BYTES");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
	int local = open(argv[2], O_RDWR), remote = open(argv[3], O_RDWR);
	check(local >= 0 && remote >= 0, "open");
	int peer = connect_tcp(remote), listener = socket(AF_UNIX, SOCK_STREAM, 0);
	watch(peer);
	check(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 8) == 0, argv[1]);
	for (;;) {
		int client = accept(listener, NULL, NULL);
		check(client >= 0, "accept");
		if (shake_hands(client, strtoull(argv[4], NULL, 10))) serve(client, peer, local);
		close(client);
	}
}
