/* N subscribers and one publisher on one thread, to measure a push server without being in its way.

   usage: load PORT SUBSCRIBE PUBLISH PREFIX N MESSAGES WINDOW SIZE
   SUBSCRIBE and PUBLISH are request targets on 127.0.0.1; the body of a publish is PREFIX and a message of SIZE bytes.
   Prints one line of JSON when all are connected, reads on until a line comes on stdin, then publishes MESSAGES with
   WINDOW of them under way (1: each waits until everybody has the one before) and prints a second line of JSON. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTING = 200, READ = 1 << 18, PATIENCE = 20 };
#define PAUSE 0.02 /* seconds of peace between two messages that are timed one by one */

static const char HEAD_END[] = "\r\n\r\n";
/* Texts whose first character does not come again in them, so that a search needs to remember a position only. */
static const char MARK[] = "ZQWVY", ACCEPTED[] = "HTTP/1.1 2";

struct client { int fd, open, matched; };

static struct client *clients, publisher = {.fd = -1};
static struct sockaddr_in address = {.sin_family = AF_INET};
static char buffer[READ], subscribe_request[1024];
static int epoll, wanted, opened, told;
static long delivered, answered;
static double first, last;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *why)
{
    fprintf(stderr, "load: %s\n", why);
    exit(1);
}

static int dial(int flags)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS))
        fail(strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void watch(int operation, struct client *client, unsigned what)
{
    struct epoll_event event = {.events = what, .data.ptr = client};
    epoll_ctl(epoll, operation, client->fd, &event);
}

/* How often `text` ends in these bytes; `matched` is how much of it has come before them. */
static int occurrences(const char *bytes, ssize_t size, const char *text, int *matched)
{
    int found = 0, length = strlen(text);
    const char *end = bytes + size;
    while (bytes < end) {
        if (!*matched) {
            bytes = memchr(bytes, text[0], end - bytes);
            if (!bytes)
                return found;
            *matched = 1;
            bytes++;
        } else if (*bytes == text[*matched]) {
            bytes++;
            if (++*matched == length) {
                found++;
                *matched = 0;
            }
        } else
            *matched = 0; /* and look at this byte again */
    }
    return found;
}

/* How many of the bytes belong to the head of the response, whose end opens the stream. */
static ssize_t after_head(struct client *client, ssize_t size)
{
    for (ssize_t i = 0; i < size; i++) {
        if (buffer[i] == HEAD_END[client->matched])
            client->matched++;
        else
            client->matched = buffer[i] == '\r';
        if (client->matched == 4) {
            client->matched = 0;
            client->open = 1;
            opened++;
            return i + 1;
        }
    }
    return size;
}

static void receive(struct client *client)
{
    ssize_t size = recv(client->fd, buffer, READ, 0), start = 0;
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0)
        fail(client == &publisher ? "the publishing connection was closed" : "a stream was closed");
    if (client == &publisher) {
        answered += occurrences(buffer, size, ACCEPTED, &client->matched);
        return;
    }
    if (!client->open)
        start = after_head(client, size);
    int events = occurrences(buffer + start, size - start, MARK, &client->matched);
    if (events) {
        last = now();
        if (!delivered)
            first = last;
        delivered += events;
    }
}

static void turn(int milliseconds)
{
    struct epoll_event events[1024];
    int ready = epoll_wait(epoll, events, 1024, milliseconds);
    for (int i = 0; i < ready; i++) {
        struct client *client = events[i].data.ptr;
        if (!client)
            told = 1; /* by a line on stdin */
        else if (events[i].events & EPOLLOUT) {
            if (send(client->fd, subscribe_request, strlen(subscribe_request), MSG_NOSIGNAL) < 0)
                fail(strerror(errno));
            watch(EPOLL_CTL_MOD, client, EPOLLIN);
        } else
            receive(client);
    }
}

static void rest(double seconds)
{
    for (double end = now() + seconds; now() < end;)
        turn(5);
}

static void connect_all(void)
{
    double begin = now();
    for (int started = 0; opened < wanted; turn(100)) {
        for (; started < wanted && started - opened < CONNECTING; started++) {
            clients[started].fd = dial(SOCK_NONBLOCK);
            watch(EPOLL_CTL_ADD, &clients[started], EPOLLOUT);
        }
        if (now() - begin > 6 * PATIENCE)
            fail("not everybody could connect");
    }
    printf("{\"connect_seconds\": %.6f}\n", now() - begin);
    fflush(stdout);
}

static void wait_for_a_line(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event))
        return; /* stdin is a file: nobody to wait for */
    while (!told)
        turn(1000);
    epoll_ctl(epoll, EPOLL_CTL_DEL, 0, NULL);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void post(const char *request, size_t size)
{
    if (send(publisher.fd, request, size, MSG_NOSIGNAL) != (ssize_t)size)
        fail("cannot publish");
}

/* One message at a time: how long until the first, and until the last has it? */
static void time_each(const char *request, size_t size, int messages)
{
    double *firsts = calloc(messages, sizeof *firsts), *lasts = calloc(messages, sizeof *lasts);
    for (int i = 0; i < messages; i++) {
        delivered = 0;
        double begin = now();
        post(request, size);
        while (delivered < wanted || answered <= i) {
            turn(100);
            if (now() - begin > PATIENCE)
                fail("a message did not reach everybody");
        }
        firsts[i] = first - begin;
        lasts[i] = last - begin;
        rest(PAUSE);
    }
    qsort(firsts, messages, sizeof *firsts, ascending);
    qsort(lasts, messages, sizeof *lasts, ascending);
    printf("{\"first_seconds\": %.6f, \"last_seconds\": %.6f, \"worst_seconds\": %.6f}\n", firsts[messages / 2],
           lasts[messages / 2], lasts[messages - 1]);
}

/* `window` messages under way, counted in deliveries: how many of these each second? */
static void time_all(const char *request, size_t size, int messages, int window)
{
    double begin = now();
    for (long sent = 0; delivered < (long)messages * wanted || answered < messages; turn(10)) {
        while (sent < messages && sent * wanted - delivered < (long)window * wanted && sent - answered < 64) {
            post(request, size);
            sent++;
        }
        if (now() - begin > 3 * PATIENCE)
            fail("the messages did not reach everybody");
    }
    double seconds = last - begin;
    printf("{\"deliveries_per_second\": %.1f, \"publishes_per_second\": %.1f}\n", delivered / seconds,
           messages / seconds);
}

int main(int count, char **words)
{
    if (count != 9)
        fail("usage: load PORT SUBSCRIBE PUBLISH PREFIX N MESSAGES WINDOW SIZE");
    const char *prefix = words[4];
    wanted = atoi(words[5]);
    int messages = atoi(words[6]), window = atoi(words[7]), size = atoi(words[8]);
    address.sin_port = htons(atoi(words[1]));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    snprintf(subscribe_request, sizeof subscribe_request,
             "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nAccept: text/event-stream\r\n\r\n", words[2], words[1]);
    size_t room = size + strlen(prefix) + strlen(words[3]) + 512;
    char *request = malloc(room), *message = malloc(size + 1);
    memset(message, 'x', size);
    message[size] = 0;
    memcpy(message + size - strlen(MARK), MARK, strlen(MARK)); /* at the end: who has it has the whole message */
    int length = snprintf(request, room,
                          "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s%s",
                          words[3], words[1], *prefix ? "application/x-www-form-urlencoded" : "text/plain",
                          strlen(prefix) + size, prefix, message);

    epoll = epoll_create1(0);
    clients = calloc(wanted, sizeof *clients);
    connect_all();
    wait_for_a_line();
    publisher.fd = dial(0);
    watch(EPOLL_CTL_ADD, &publisher, EPOLLIN);
    if (window == 1)
        time_each(request, length, messages);
    else
        time_all(request, length, messages, window);
    return 0;
}
