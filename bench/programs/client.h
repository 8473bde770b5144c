/* The common parts of the programs that simulate clients: the clock, an epoll, and an exit with a reason.

   PROGRAM is the name in error messages; `struct client` has the connection as `fd`. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int epoll;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *why)
{
    fprintf(stderr, PROGRAM ": %s\n", why);
    exit(1);
}

static void watch(int operation, int fd, void *client, unsigned what)
{
    struct epoll_event event = {.events = what, .data.ptr = client};
    epoll_ctl(epoll, operation, fd, &event);
}

/* A nonblocking TCP socket that sends without delay (TCP_NODELAY). */
static int new_socket(void)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        fail(strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void start_connecting(int fd, const void *address, socklen_t size)
{
    if (connect(fd, address, size) && errno != EINPROGRESS)
        fail(strerror(errno));
}
