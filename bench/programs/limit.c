/* The least that a push server can do: accept, remember, send() in a loop. The rest of its time is spent in the kernel.

   usage: limit PORT [CERTIFICATE KEY]     (these two with -DWITH_TLS)
   GET /N opens a stream with the number N (0 or none: a stream without a number). POST /N sends the part of its body
   after "message=" (or the whole body) to the stream with that number, POST without a number to all streams, as one
   event that is built once. No channels, no history, no queues, no timeouts: only a figure to compare with. */

#define _GNU_SOURCE
#include "transport.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

enum { BUFFER = 1 << 20 };

static int streams[MAX_FD], stream_count;
static int place[MAX_FD];    /* of each descriptor in `streams`, plus one; 0: no stream */
static int numbered[MAX_FD]; /* the descriptor of the stream with that number */
static char buffer[BUFFER + 1], frame[BUFFER + 64];

static const char OPENED[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n\n\n";
static const char PUBLISHED[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

static void leave(int fd)
{
    if (place[fd]) {
        int last = streams[--stream_count];
        streams[place[fd] - 1] = last;
        place[last] = place[fd];
        place[fd] = 0;
    }
    transport_end(fd);
}

static void publish(const char *body, size_t size, int number)
{
    const char *message = memmem(body, size, "message=", 8);
    message = message ? message + 8 : body;
    int length = sprintf(frame, "id: 1792000000000-0-c0ffee\ndata: %.*s\n\n", (int)(body + size - message), message);
    if (number)
        transport_write(numbered[number], frame, length);
    else
        for (int i = 0; i < stream_count; i++)
            transport_write(streams[i], frame, length);
}

/* The number in a request's target; 0 if there is none. */
static int number_of(const char *request)
{
    const char *target = strchr(request, '/');
    int number = target ? atoi(target + 1) : 0;
    return number > 0 && number < MAX_FD ? number : 0;
}

/* Answer the requests, which are always complete: the load generator sends each in one piece. */
static void answer(int fd, char *request)
{
    while (*request) {
        char *body = strstr(request, "\r\n\r\n");
        if (!body)
            return;
        body += 4;
        if (*request == 'G') {
            transport_write(fd, OPENED, sizeof OPENED - 1);
            streams[stream_count++] = fd;
            place[fd] = stream_count;
            numbered[number_of(request)] = fd;
            request = body;
        } else {
            char *length = strcasestr(request, "content-length:");
            size_t size = length ? strtoul(length + 15, NULL, 10) : 0;
            if (size > strlen(body))
                return;
            transport_write(fd, PUBLISHED, sizeof PUBLISHED - 1);
            publish(body, size, number_of(request));
            request = body + size;
        }
    }
}

static int listen_on(int port)
{
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("limit");
        exit(1);
    }
    return listener;
}

int main(int count, char **words)
{
    if (count != 2 && count != 4) {
        fprintf(stderr, "usage: limit PORT [CERTIFICATE KEY]\n");
        return 2;
    }
    transport_prepare(words[2], count == 4 ? words[3] : NULL);
    signal(SIGPIPE, SIG_IGN); /* needed since OpenSSL writes without MSG_NOSIGNAL */
    int one = 1, fd, listener = listen_on(atoi(words[1])), epoll = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, events[512];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        int ready = epoll_wait(epoll, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    transport_begin(fd, 1);
                    wanted.data.fd = fd;
                    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted);
                }
                continue;
            }
            ssize_t size = transport_read(events[i].data.fd, buffer, BUFFER);
            if (size > 0) {
                buffer[size] = 0;
                answer(events[i].data.fd, buffer);
            } else if (size == 0 || errno != EAGAIN)
                leave(events[i].data.fd);
        }
    }
}
