/* Generates load for a gateway on one thread: sends the file's body over CONNECTIONS connections until REQUESTS
 * answers have arrived, then prints one JSON object. Checks that every answer is a complete 200 and that streams
 * end with [DONE]. RATE > 0 starts that many requests per second, however long answers take, and measures latency
 * from when a request was due. LATE_US > 0 also reports how much later than LATE_US after the previous event each
 * event arrived. Answers that are not streamed must contain HOLDS, if given. Usage:
 * load PORT PATH BODY_FILE KEY CONNECTIONS REQUESTS RATE LATE_US [HOLDS] */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int fd, busy;
    char *in;
    size_t size, room, sent;
    double began, first, last; /* seconds */
} connection;

static char *request;
static size_t request_size;
static long started, done, wrong, events, total;
static double *latencies, *firsts, *lates;
static long late_count, late_room;
static double late_after;
static char first_wrong[200];
static const char *holds = "";

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void open_connection(connection *c, int poller, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) {
        perror("connect");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &wanted);
}

static void begin(connection *c, double due) {
    c->busy = 1;
    c->size = 0;
    c->began = due;
    c->first = c->last = 0;
    started++;
    for (size_t sent = 0; sent < request_size;) {
        ssize_t n = send(c->fd, request + sent, request_size - sent, MSG_NOSIGNAL);
        if (n < 0) {
            perror("send");
            exit(1);
        }
        sent += n;
    }
}

static void note_late(double gap) {
    if (late_count == late_room) {
        late_room = late_room * 2 + 4096;
        lates = realloc(lates, late_room * sizeof *lates);
    }
    lates[late_count++] = gap > late_after ? gap - late_after : 0;
}

/* Returns 1 if the answer is complete, -1 if it is wrong, 0 if more is expected. */
static int state(connection *c) {
    c->in[c->size] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) return 0;
    if (strncmp(c->in, "HTTP/1.1 200", 12)) return -1;
    char *length = strcasestr(c->in, "\r\ncontent-length:");
    if (length && length < end) {
        size_t body = strtoul(length + 17, NULL, 10), have = c->size - (end + 4 - c->in);
        return have == body && strstr(end, holds) ? 1 : have >= body ? -1 : 0;
    }
    if (c->size < 5 || memcmp(c->in + c->size - 5, "0\r\n\r\n", 5)) return 0;
    return memmem(c->in, c->size, "data: [DONE]", 12) ? 1 : -1;
}

static long count_events(const char *data, size_t size) {
    long found = 0;
    for (const char *at = data; (at = memmem(at, size - (at - data), "data: ", 6)); at += 6) found++;
    return found;
}

static int receive(connection *c) {
    if (c->room - c->size < 65537) {
        c->room = c->room * 2 + 131072;
        c->in = realloc(c->in, c->room);
    }
    ssize_t got = recv(c->fd, c->in + c->size, c->room - c->size - 1, 0);
    if (got <= 0) return -1;
    double at = now();
    if (!c->first) c->first = at;
    long found = count_events(c->in + c->size, got);
    if (late_after > 0 && found) {
        if (c->last) note_late(at - c->last);
        c->last = at;
    }
    events += found;
    c->size += got;
    return state(c);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, long count, double share) {
    return count ? values[(long)(share * (count - 1))] : 0;
}

static void read_request(char **a) {
    FILE *file = fopen(a[3], "rb");
    if (!file) {
        perror(a[3]);
        exit(1);
    }
    static char body[4 << 20];
    size_t size = fread(body, 1, sizeof body, file);
    fclose(file);
    request = malloc(size + 1024);
    int head = sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nUser-Agent: OpenAI/Python 2.0.0\r\n"
                                "Accept: application/json\r\nAuthorization: Bearer %s\r\n"
                                "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", a[2], a[1], a[4], size);
    memcpy(request + head, body, size);
    request_size = head + size;
}

int main(int count, char **a) {
    if (count != 9 && count != 10)
        return fprintf(stderr, "usage: load PORT PATH BODY_FILE KEY CONNECTIONS REQUESTS RATE LATE_US [HOLDS]\n"), 2;
    if (count == 10) holds = a[9];
    read_request(a);
    int connections = atoi(a[5]), port = atoi(a[1]), poller = epoll_create1(0);
    double rate = atof(a[7]);
    total = atol(a[6]);
    late_after = atof(a[8]) / 1e6;
    latencies = calloc(total, sizeof *latencies);
    firsts = calloc(total, sizeof *firsts);
    connection *all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) open_connection(&all[i], poller, port);
    double began = now(), next = began, quiet = began;
    for (int i = 0; i < connections && started < total && rate == 0; i++) begin(&all[i], now());
    struct epoll_event ready[512];
    while (done + wrong < total) {
        if (rate > 0)
            for (int i = 0; i < connections && started < total && now() >= next; i++)
                if (!all[i].busy) {
                    begin(&all[i], next);
                    next += 1 / rate;
                }
        int n = epoll_wait(poller, ready, 512, 0); /* busy-polls, like the engine */
        if (!n) sched_yield();
        if (n > 0) quiet = now();
        else if (now() - quiet > 60) break; /* nothing more will arrive */
        for (int i = 0; i < n; i++) {
            connection *c = ready[i].data.ptr;
            int is = receive(c);
            if (is == 0) continue;
            if (is > 0) {
                latencies[done] = now() - c->began;
                firsts[done++] = c->first - c->began;
            } else {
                if (!wrong++) snprintf(first_wrong, sizeof first_wrong, "%.*s", 60, c->size ? c->in : "closed");
                close(c->fd);
                open_connection(c, poller, port);
            }
            c->busy = 0;
            if (rate == 0 && started < total) begin(c, now());
        }
    }
    double seconds = now() - began;
    qsort(latencies, done, sizeof *latencies, by_value);
    qsort(firsts, done, sizeof *firsts, by_value);
    qsort(lates, late_count, sizeof *lates, by_value);
    for (char *at = first_wrong; *at; at++) if (*at == '"' || *at < 32) *at = ' ';
    printf("{\"done\":%ld,\"wrong\":%ld,\"first_wrong\":\"%s\",\"seconds\":%.6f,\"events\":%ld,\"p50_ms\":%.4f,\"p99_ms\":%.4f,"
           "\"first_p50_ms\":%.4f,\"first_p99_ms\":%.4f,\"late_p99_ms\":%.4f,\"late_max_ms\":%.4f}\n",
           done, wrong, first_wrong, seconds, events, quantile(latencies, done, .5) * 1e3, quantile(latencies, done, .99) * 1e3,
           quantile(firsts, done, .5) * 1e3, quantile(firsts, done, .99) * 1e3, quantile(lates, late_count, .99) * 1e3,
           quantile(lates, late_count, 1) * 1e3);
    return wrong || done < total;
}
