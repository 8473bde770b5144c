/* The least that a push server can do: accept, remember, send() in a loop. What is left of its time is the kernel's.

   usage: limit PORT
   GET  opens a stream. POST sends what stands behind "message=" in its body (or the whole body) to all streams, as
   one event that is built once. No channels, no history, no queues, no timeouts: a figure to compare with, no more. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FD = 1 << 20, BUFFER = 1 << 20 };

static int streams[MAX_FD], stream_count;
static int place[MAX_FD]; /* of each descriptor in `streams`, plus one; 0: it is no stream */
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
    close(fd);
}

static void broadcast(const char *body, size_t size)
{
    const char *message = memmem(body, size, "message=", 8);
    message = message ? message + 8 : body;
    int length = sprintf(frame, "id: 1792000000000-0-c0ffee\ndata: %.*s\n\n", (int)(body + size - message), message);
    for (int i = 0; i < stream_count; i++)
        send(streams[i], frame, length, MSG_NOSIGNAL);
}

/* Requests come whole: the load generator sends each in one piece, several at most behind one another. */
static void answer(int fd, char *request)
{
    while (*request) {
        char *body = strstr(request, "\r\n\r\n");
        if (!body)
            return;
        body += 4;
        if (*request == 'G') {
            send(fd, OPENED, sizeof OPENED - 1, MSG_NOSIGNAL);
            streams[stream_count++] = fd;
            place[fd] = stream_count;
            request = body;
        } else {
            char *length = strcasestr(request, "content-length:");
            size_t size = length ? strtoul(length + 15, NULL, 10) : 0;
            if (size > strlen(body))
                return;
            send(fd, PUBLISHED, sizeof PUBLISHED - 1, MSG_NOSIGNAL);
            broadcast(body, size);
            request = body + size;
        }
    }
}

int main(int count, char **words)
{
    if (count != 2) {
        fprintf(stderr, "usage: limit PORT\n");
        return 2;
    }
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("limit");
        return 1;
    }
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, events[512];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        int ready = epoll_wait(epoll, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    wanted.data.fd = fd;
                    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted);
                }
                continue;
            }
            ssize_t size = recv(fd, buffer, BUFFER, 0);
            if (size > 0) {
                buffer[size] = 0;
                answer(fd, buffer);
            } else if (size == 0 || errno != EAGAIN)
                leave(fd);
        }
    }
}
