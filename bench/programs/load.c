/* Subscribers and publishers on one thread, to measure a push server with little load of their own.

   usage: load PORT SUBSCRIBE [PATH]
   SUBSCRIBE is a request target on 127.0.0.1; each %d in it becomes the subscriber's number, from 1.
   With PATH all connections are made to that UNIX socket.
   Each line on stdin is a command, and is answered by a line of JSON on stdout. Streams are read between commands, too.
     connect N              open N streams
     return N EVENTS ID     open N streams with Last-Event-ID, and wait until each has received EVENTS events
     drop                   close all streams
     poll                   use long polls from now on: each ends with its event, and its connection stays open
     again                  poll again with the id of the last event, and wait until all polls wait for the next
     publish PORT M SIZE FILE
                            publish over M connections to that port the requests of SIZE bytes in FILE, in turn
     time MESSAGES EACH     one message at a time: the time until the first and the last of EACH receivers has it
     flow MESSAGES EACH WINDOW
                            WINDOW messages under way: the messages a second
   An event counts when the MARK at the end of its message has been received. */

#define _GNU_SOURCE
#define PROGRAM "load"
#include "client.h"
#include "search.h"
#include "transport.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/un.h>

enum { CONNECTING = 200, READ = 1 << 18, PATIENCE = 20, LINE = 4096, PUBLISHERS = 64, ASKED = 64 };
#define PAUSE 0.05 /* seconds between two messages that are timed one by one */

static const char HEAD_END[] = "\r\n\r\n";
/* The first character of each text occurs only once in the text, so a search needs to keep only a position. */
static const char MARK[] = "ZQWVY", ACCEPTED[] = "HTTP/1.1 2", STORED[] = "$";

struct client { int fd, asked, open, matched, got; };

static struct client *clients, publishers[PUBLISHERS];
static struct sockaddr_in address = {.sin_family = AF_INET};
static struct sockaddr_un unix_address = {.sun_family = AF_UNIX}; /* if set, connect to it */
static char buffer[READ], event_id[256], *publishes;
static const char *subscribe, *accepted = ACCEPTED, *asks_for_poll = "";
static int port, wanted, opened, complete, expected, told, publisher_count;
static long delivered, answered, request_size, request_count;
static double first, last;

static void say(const char *name, double value, const char *end)
{
    printf("%s\"%s\": %.6f%s", *end == ',' ? "" : " ", name, value, end);
}

static void dial(struct client *client, int to)
{
    *client = (struct client){0};
    address.sin_port = htons(to);
    if (*unix_address.sun_path) { /* without blocking here, a full backlog would refuse where TCP waits */
        client->fd = socket(AF_UNIX, SOCK_STREAM, 0);
        start_connecting(client->fd, &unix_address, sizeof unix_address);
        fcntl(client->fd, F_SETFL, O_NONBLOCK);
    } else {
        client->fd = new_socket();
        start_connecting(client->fd, &address, sizeof address);
    }
    transport_begin(client->fd, 0);
}

/* The number of these bytes that belong to the head of the response; the stream is open after the head. */
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

static int is_publisher(const struct client *client)
{
    return client >= publishers && client < publishers + PUBLISHERS;
}

static void refuse_refusals(ssize_t size)
{
    const char *status = memmem(buffer, size, "HTTP/1.1 ", 9);
    if (status && buffer + size - status > 12 && (status[9] == '4' || status[9] == '5')) {
        fprintf(stderr, "load: the server refused: %.*s\n", (int)strcspn(status, "\r\n"), status);
        exit(3);
    }
}

/* Keep the id of an event: all clients receive the same events. */
static void remember_id(void)
{
    const char *id = strstr(buffer, "\nid: ");
    if (id)
        snprintf(event_id, sizeof event_id, "Last-Event-ID: %.*s\r\n", (int)strcspn(id + 5, "\n"), id + 5);
}

static void receive(struct client *client)
{
    ssize_t size = transport_read(client->fd, buffer, READ - 1), start = 0;
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0)
        fail(is_publisher(client) ? "the publishing connection was closed" : "a stream was closed");
    buffer[size] = 0;
    if (is_publisher(client)) {
        refuse_refusals(size);
        answered += occurrences(buffer, size, accepted, &client->matched);
        return;
    }
    if (!client->open) {
        refuse_refusals(size);
        start = after_head(client, size);
    }
    int events = occurrences(buffer + start, size - start, MARK, &client->matched);
    if (events) {
        if (*asks_for_poll)
            remember_id();
        last = now();
        if (!delivered)
            first = last;
        delivered += events;
        complete += client->got < expected && client->got + events >= expected;
        client->got += events;
    }
}

/* Write the target with the client's number in place of each %d. */
static void write_target(char *target, int number)
{
    const char *from = subscribe;
    while (*from)
        if (from[0] == '%' && from[1] == 'd') {
            target += sprintf(target, "%06d", number);
            from += 2;
        } else
            *target++ = *from++;
    *target = 0;
}

/* Send the request, if the connection and its handshake are ready. */
static void ask(struct client *client)
{
    char target[LINE], request[2 * LINE];
    write_target(target, client - clients + 1);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n%s%s\r\n",
                          target, port, asks_for_poll, event_id);
    if (transport_write(client->fd, request, length) > 0)
        client->asked = 1;
    else if (errno != EAGAIN)
        fail(strerror(errno));
    watch(EPOLL_CTL_MOD, client->fd, client, EPOLLIN);
}

static void turn(int milliseconds)
{
    struct epoll_event events[1024];
    int ready = epoll_wait(epoll, events, 1024, milliseconds);
    for (int i = 0; i < ready; i++) {
        struct client *client = events[i].data.ptr;
        if (!client)
            told = 1; /* a line on stdin */
        else if (client->asked)
            receive(client);
        else
            ask(client);
    }
}

static void rest(double seconds)
{
    for (double end = now() + seconds; now() < end;)
        turn(5);
}

/* Open `count` streams, with the header line in `event_id` if there is one, and wait for `events` in each. */
static void open_streams(int count, int events)
{
    double begin = now(), all_open = 0;
    wanted = count;
    opened = complete = 0;
    expected = events;
    for (int started = 0; opened < wanted || (events && complete < wanted); turn(100)) {
        for (; started < wanted && started - opened < CONNECTING; started++) {
            dial(&clients[started], port);
            watch(EPOLL_CTL_ADD, clients[started].fd, &clients[started], EPOLLOUT);
        }
        if (!all_open && opened == wanted)
            all_open = now();
        if (now() - begin > 6 * PATIENCE)
            fail(opened < wanted ? "not all clients could connect" : "not all clients received what they had missed");
    }
    say("open_seconds", (all_open ? all_open : now()) - begin, ",");
    say("seconds", now() - begin, "");
}

static void poll_again(void)
{
    double begin = now();
    opened = 0;
    for (int i = 0; i < wanted; i++) {
        clients[i].open = clients[i].matched = 0;
        ask(&clients[i]);
    }
    while (opened < wanted) {
        turn(100);
        if (now() - begin > PATIENCE)
            fail("not all clients could poll again");
    }
    say("seconds", now() - begin, "");
}

static void drop(void)
{
    for (int i = 0; i < wanted; i++)
        transport_end(clients[i].fd);
    wanted = opened = 0;
}

static void read_requests(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        fail("cannot read the file of requests");
    long size = ftell(file);
    request_count = size / request_size;
    free(publishes);
    publishes = malloc(size);
    rewind(file);
    if (!request_count || fread(publishes, 1, size, file) != (size_t)size)
        fail("the file of requests is too short");
    fclose(file);
}

static void begin_publishing(int to, int count)
{
    for (int i = 0; i < publisher_count; i++)
        transport_end(publishers[i].fd);
    accepted = *publishes == '*' ? STORED : ACCEPTED; /* Redis, or HTTP */
    publisher_count = count < PUBLISHERS ? count : PUBLISHERS;
    for (int i = 0; i < publisher_count; i++) {
        dial(&publishers[i], to);
        publishers[i].asked = 1;
        watch(EPOLL_CTL_ADD, publishers[i].fd, &publishers[i], EPOLLIN);
    }
    rest(PAUSE);
}

/* Send the message with this number; while the socket is full, read from the streams. */
static void post(long number)
{
    struct client *publisher = &publishers[number % publisher_count];
    const char *request = publishes + number % request_count * request_size;
    for (long sent = 0; sent < request_size;) {
        ssize_t size = transport_write(publisher->fd, request + sent, request_size - sent);
        if (size > 0)
            sent += size;
        else if (size < 0 && errno == EAGAIN)
            turn(1);
        else
            fail("cannot publish");
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void time_each(int messages, long each)
{
    double *firsts = calloc(messages, sizeof *firsts), *lasts = calloc(messages, sizeof *lasts);
    answered = 0;
    for (int i = 0; i < messages; i++) {
        delivered = 0;
        double begin = now();
        post(i);
        while (delivered < each || answered <= i) {
            turn(100);
            if (now() - begin > PATIENCE)
                fail("a message did not reach all clients");
        }
        firsts[i] = first - begin;
        lasts[i] = last - begin;
        rest(PAUSE);
    }
    qsort(firsts, messages, sizeof *firsts, ascending);
    qsort(lasts, messages, sizeof *lasts, ascending);
    say("first_seconds", firsts[messages / 2], ",");
    say("last_seconds", lasts[messages / 2], ",");
    say("worst_seconds", lasts[messages - 1], "");
    free(firsts);
    free(lasts);
}

static void time_all(long messages, long each, long window)
{
    double begin = now();
    delivered = answered = 0;
    for (long sent = 0; delivered < messages * each || answered < messages; turn(10)) {
        while (sent < messages && sent * each - delivered < window * each && sent - answered < ASKED) {
            post(sent);
            sent++;
        }
        if (now() - begin > 3 * PATIENCE)
            fail("the messages did not reach all clients");
    }
    double seconds = (each ? last : now()) - begin;
    say("deliveries_per_second", delivered / seconds, ",");
    say("publishes_per_second", messages / seconds, "");
}

static void obey(const char *line)
{
    char path[LINE], id[128];
    long a, b, c;
    printf("{");
    if (sscanf(line, "connect %ld", &a) == 1) {
        *event_id = 0;
        open_streams(a, 0);
    } else if (sscanf(line, "return %ld %ld %127s", &a, &b, id) == 3) {
        snprintf(event_id, sizeof event_id, "Last-Event-ID: %s\r\n", id);
        open_streams(a, b);
    } else if (!strncmp(line, "drop", 4))
        drop();
    else if (!strncmp(line, "poll", 4))
        asks_for_poll = "X-Requested-With: XMLHttpRequest\r\n";
    else if (!strncmp(line, "again", 5))
        poll_again();
    else if (sscanf(line, "publish %ld %ld %ld %4095[^\n]", &a, &b, &c, path) == 4) {
        request_size = c;
        read_requests(path);
        begin_publishing(a, b);
    } else if (sscanf(line, "time %ld %ld", &a, &b) == 2)
        time_each(a, b);
    else if (sscanf(line, "flow %ld %ld %ld", &a, &b, &c) == 3)
        time_all(a, b, c);
    else
        fail("a command that it does not know");
    printf("}\n");
    fflush(stdout);
}

int main(int count, char **words)
{
    char line[LINE];
    if (count != 3 && count != 4)
        fail("usage: load PORT SUBSCRIBE [PATH]");
    port = atoi(words[1]);
    subscribe = words[2];
    if (count == 4)
        snprintf(unix_address.sun_path, sizeof unix_address.sun_path, "%s", words[3]);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    signal(SIGPIPE, SIG_IGN); /* needed since OpenSSL writes without MSG_NOSIGNAL */
    transport_prepare(NULL, NULL);
    epoll = epoll_create1(0);
    clients = calloc(MAX_FD, sizeof *clients);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
    for (;;) {
        turn(1000);
        if (told) {
            told = 0;
            if (!fgets(line, sizeof line, stdin))
                return 0;
            obey(line);
        }
    }
}
