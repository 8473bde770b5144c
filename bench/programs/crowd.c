/* Very many clients on one thread, which reconnect by themselves, and each check their own events.

   usage: crowd PORT TARGET ADDRESS
   The clients connect from ADDRESS and the three after it, since one address has about 28,000 ports. Each message is a
   number, one higher than the last. A client that is cut off resumes with its last id after the server's reconnection
   time (`retry:`), or else after about three seconds, as browsers do.
   Each line on stdin is a command, and is answered by a line of JSON on stdout:
     begin N                start to connect N clients, without waiting for them
     connect N              connect N clients, and wait until all are connected
     await NUMBER SECONDS   wait until each has received this number, or the time is over
     settle SECONDS         wait until all are connected, or the time is over
     cut N                  cut off N clients
     state                  print the totals so far */

#define _GNU_SOURCE
#define PROGRAM "crowd"
#include "client.h"

enum { MAX_CLIENTS = 1 << 16, CONNECTING = 200, ADDRESSES = 4, READ = 1 << 16, ID = 48, LINE = 128, PATIENCE = 300 };
enum { BUCKETS = 1024, BUCKET = 20, RETRY = 3000, SPREAD = 1000 }; /* milliseconds, but the first */

enum state { AWAY, DIALLED, ASKED, OPEN };

struct client {
    int fd, heard, retry, number, is_gap;
    enum state state;
    struct client *next; /* in the same bucket */
    unsigned length;
    char line[LINE], id[ID], coming[ID];
};

static struct client clients[MAX_CLIENTS], *waiting[BUCKETS], *ready;
static char buffer[READ];
static const char *target, *first_address;
static int port, count, opened, opening, told, goal, reached;
static long lost, doubled, gaps, cut_off, refused;
static double last_reached;
static long tick; /* the next bucket to handle */

static void dial(struct client *client)
{
    int one = 1;
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, first_address, &from.sin_addr);
    from.sin_addr.s_addr = htonl(ntohl(from.sin_addr.s_addr) + (client - clients) % ADDRESSES);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    client->fd = new_socket();
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(client->fd, (struct sockaddr *)&from, sizeof from))
        fail(strerror(errno));
    start_connecting(client->fd, &to, sizeof to);
    client->state = DIALLED;
    client->length = client->is_gap = 0;
    client->number = -1;
    *client->coming = 0;
    opening++;
    watch(EPOLL_CTL_ADD, client->fd, client, EPOLLOUT);
}

/* Close the connection, and reconnect later. */
static void leave(struct client *client)
{
    close(client->fd);
    if (client->state == OPEN) {
        opened--;
        cut_off++;
    } else {
        opening--;
        refused++;
    }
    client->state = AWAY;
    int delay = client->retry ? client->retry : RETRY + random() % SPREAD;
    long ahead = delay / BUCKET + 1;
    struct client **bucket = &waiting[(tick + (ahead < BUCKETS ? ahead : BUCKETS - 1)) % BUCKETS];
    client->next = *bucket;
    *bucket = client;
}

static void get_ready(struct client *client)
{
    client->next = ready;
    ready = client;
}

static void ask(struct client *client)
{
    char request[1024];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n%s%s%s\r\n", target,
                          port, *client->id ? "Last-Event-ID: " : "", client->id, *client->id ? "\r\n" : "");
    if (error || send(client->fd, request, length, MSG_NOSIGNAL) != length) {
        leave(client);
        return;
    }
    client->state = ASKED;
    watch(EPOLL_CTL_MOD, client->fd, client, EPOLLIN);
}

static void hear(struct client *client, int number)
{
    if (number <= client->heard) {
        doubled++;
        return;
    }
    lost += number - client->heard - 1;
    if (client->heard < goal && number >= goal) {
        reached++;
        last_reached = now();
    }
    client->heard = number;
}

/* Handle a blank line: the event is complete, and its id is now the last id. */
static void dispatch(struct client *client)
{
    if (*client->coming)
        memcpy(client->id, client->coming, ID);
    if (client->is_gap)
        gaps++;
    else if (client->number >= 0)
        hear(client, client->number);
    *client->coming = client->is_gap = 0;
    client->number = -1;
}

static void read_field(struct client *client)
{
    const char *line = client->line;
    if (!*line)
        dispatch(client);
    else if (!strncmp(line, "id: ", 4))
        snprintf(client->coming, ID, "%s", line + 4);
    else if (!strncmp(line, "data: ", 6))
        client->number = atoi(line + 6);
    else if (!strcmp(line, "event: sse-gap"))
        client->is_gap = 1;
    else if (!strncmp(line, "retry: ", 7))
        client->retry = atoi(line + 7);
}

/* Read a line of the response's head; returns whether the response is a stream so far. */
static int read_head(struct client *client)
{
    const char *line = client->line;
    if (!strncmp(line, "HTTP/1.1 ", 9))
        return !strncmp(line + 9, "200", 3);
    if (!strncasecmp(line, "last-event-id: ", 15) && !*client->id)
        snprintf(client->id, ID, "%s", line + 15);
    if (!*line) {
        client->state = OPEN;
        opened++;
        opening--;
    }
    return 1;
}

static int read_line(struct client *client)
{
    if (client->length && client->line[client->length - 1] == '\r')
        client->length--;
    client->line[client->length] = 0;
    client->length = 0;
    if (client->state == ASKED)
        return read_head(client);
    read_field(client);
    return 1;
}

static void receive(struct client *client)
{
    ssize_t size = recv(client->fd, buffer, READ, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    const char *at = buffer, *end = buffer + (size > 0 ? size : 0);
    int alive = size > 0;
    while (alive && at < end) {
        const char *newline = memchr(at, '\n', end - at);
        size_t part = (newline ? newline : end) - at, room = LINE - 1 - client->length;
        memcpy(client->line + client->length, at, part < room ? part : room); /* the start of a line is enough */
        client->length += part < room ? part : room;
        at += part + 1;
        if (newline)
            alive = read_line(client);
    }
    if (!alive)
        leave(client);
}

static void look_at_the_clock(void)
{
    for (long present = now() * 1000 / BUCKET; tick < present; tick++) {
        struct client *client = waiting[tick % BUCKETS];
        waiting[tick % BUCKETS] = NULL;
        while (client) {
            struct client *next = client->next;
            get_ready(client);
            client = next;
        }
    }
    while (ready && opening < CONNECTING) {
        struct client *client = ready;
        ready = client->next;
        dial(client);
    }
}

static void turn(void)
{
    struct epoll_event events[1024];
    look_at_the_clock();
    int waited = epoll_wait(epoll, events, 1024, BUCKET);
    for (int i = 0; i < waited; i++) {
        struct client *client = events[i].data.ptr;
        if (!client)
            told = 1; /* a line on stdin */
        else if (client->state == DIALLED)
            ask(client);
        else
            receive(client);
    }
}

static void come(int many)
{
    for (; count < many && count < MAX_CLIENTS; count++)
        get_ready(&clients[count]);
}

static void settle(double seconds)
{
    double begin = now();
    while (opened < count && now() - begin < seconds)
        turn();
    printf("{\"connected\": %d, \"seconds\": %.6f}\n", opened, now() - begin);
}

static void await(int number, double seconds)
{
    double begin = now();
    goal = number;
    reached = 0;
    last_reached = begin;
    for (int i = 0; i < count; i++)
        reached += clients[i].heard >= number;
    while (reached < count && now() - begin < seconds)
        turn();
    printf("{\"reached\": %d, \"at\": %.6f}\n", reached, last_reached);
}

static void cut(int many)
{
    for (int i = 0; i < count && many > 0; i++)
        if (clients[i].state == OPEN) {
            leave(&clients[i]);
            many--;
        }
    printf("{}\n");
}

static void obey(const char *line)
{
    int number;
    double seconds;
    if (sscanf(line, "connect %d", &number) == 1) {
        come(number);
        settle(PATIENCE);
    } else if (sscanf(line, "begin %d", &number) == 1) {
        come(number);
        printf("{}\n");
    } else if (sscanf(line, "await %d %lf", &number, &seconds) == 2)
        await(number, seconds);
    else if (sscanf(line, "settle %lf", &seconds) == 1)
        settle(seconds);
    else if (sscanf(line, "cut %d", &number) == 1)
        cut(number);
    else if (!strncmp(line, "state", 5))
        printf("{\"connected\": %d, \"lost\": %ld, \"doubled\": %ld, \"gaps\": %ld, \"cut_off\": %ld, "
               "\"refused\": %ld}\n",
               opened, lost, doubled, gaps, cut_off, refused);
    else
        fail("a command that it does not know");
    fflush(stdout);
}

int main(int words, char **word)
{
    char line[256];
    if (words != 4)
        fail("usage: crowd PORT TARGET ADDRESS");
    port = atoi(word[1]);
    target = word[2];
    first_address = word[3];
    epoll = epoll_create1(0);
    tick = now() * 1000 / BUCKET;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
    for (;;) {
        turn();
        if (told) {
            told = 0;
            if (!fgets(line, sizeof line, stdin))
                return 0;
            obey(line);
        }
    }
}
