/* An engine that answers immediately: vLLM's chat API with canned responses, on one thread, so that the gateway is
 * what is measured. A request with "stream":true gets CHUNKS events and [DONE]; one with "tools" and no tool result
 * yet gets CALLS tool calls; any other gets a text. Usage: engine PORT CHUNKS INTERVAL_US CALLS POLLS
 * With an interval, every stream gets one event per tick, as from a decoding engine; 0 sends all events at once.
 * The engine polls POLLS times before it sleeps: waking a process on another core costs the sender, here the
 * gateway, 5 us, whereas in a deployment the engine is another machine.
 * For gateways that only run tools over MCP, it is also the MCP server, with the two tools, at /mcp, and answers
 * /v1/responses with two calls, or with a text once it has their results. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define WORD "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1763769600,\"model\":\"mock-model\"," \
             "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"logprobs\":null,\"finish_reason\":null}]}"
#define LAST "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1763769600,\"model\":\"mock-model\"," \
             "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}]}"
#define ANSWER "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1763769600,\"model\":\"mock-model\",\"choices\":[" \
               "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":%s,\"refusal\":null,\"annotations\":null,\"audio\":null," \
               "\"function_call\":null,\"tool_calls\":[%s],\"reasoning\":null},\"logprobs\":null,\"finish_reason\":\"%s\"," \
               "\"stop_reason\":null}],\"usage\":{\"prompt_tokens\":320,\"total_tokens\":420,\"completion_tokens\":100," \
               "\"prompt_tokens_details\":null},\"kv_transfer_params\":null}"
#define CALL "%s{\"id\":\"call_%d\",\"type\":\"function\",\"function\":{\"name\":\"%s\",\"arguments\":\"%s\"}}"
#define RESPONSE "{\"id\":\"resp_1\",\"object\":\"response\",\"created_at\":1763769600,\"status\":\"completed\"," \
                 "\"model\":\"mock-model\",\"parallel_tool_calls\":true,\"tool_choice\":\"auto\",\"tools\":[],\"usage\":" \
                 "{\"input_tokens\":320,\"output_tokens\":100,\"total_tokens\":420,\"input_tokens_details\":{\"cached_tokens\":0}," \
                 "\"output_tokens_details\":{\"reasoning_tokens\":0}},\"output\":[%s]}"
#define MCP_CALL "{\"id\":\"fc_%d\",\"type\":\"function_call\",\"status\":\"completed\",\"call_id\":\"call_%d\",\"name\":\"%s\"," \
                 "\"arguments\":\"{\\\"%s\\\": \\\"%s\\\"}\"}"
#define MCP_TEXT "{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":" \
                 "[{\"type\":\"output_text\",\"text\":%s,\"annotations\":[]}]}"
#define MCP_ANSWER "{\"jsonrpc\":\"2.0\",\"id\":%ld,%s}"
#define MCP_INITIALIZED "\"result\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{\"tools\":{}}," \
                        "\"serverInfo\":{\"name\":\"bench\",\"version\":\"1\"}}"
#define MCP_TOOL "{\"name\":\"%s\",\"description\":\"%s\",\"inputSchema\":{\"type\":\"object\",\"properties\":" \
                 "{\"%s\":{\"type\":\"string\"}},\"required\":[\"%s\"]}}"
#define MCP_RESULT "\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"{\\\"result\\\": 8}\"}]}"
#define MCP_UNKNOWN "\"error\":{\"code\":-32601,\"message\":\"no such method\"}"
#define MODELS "{\"object\":\"list\",\"data\":[{\"id\":\"mock-model\",\"object\":\"model\",\"created\":1,\"owned_by\":\"vllm\",\"max_model_len\":32768}]}"
#define ACCEPTED "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
#define STREAM_HEAD "HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 00:00:00 GMT\r\nserver: uvicorn\r\n" \
                    "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"

typedef struct connection {
    int fd, left;                    /* events left in the stream */
    char *in, *out;
    size_t in_size, in_room, out_size, out_sent, out_room;
    struct connection *next, *previous; /* in the list of paced streams */
} connection;

static int chunks, interval, poller;
static connection *paced;
static char text[2048], calls[8192], prefixed_calls[8192], our_calls[8192], mcp_text[4096], mcp_tools[1024];
static char mcp_calls[2048], agentic_calls[2048];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void put(connection *c, const char *data, size_t size) {
    if (c->out_size + size > c->out_room) {
        c->out_room = (c->out_size + size) * 2;
        if (!(c->out = realloc(c->out, c->out_room))) fail("memory");
    }
    memcpy(c->out + c->out_size, data, size);
    c->out_size += size;
}

static void put_event(connection *c, const char *data) {
    char frame[1024];
    put(c, frame, sprintf(frame, "%zx\r\ndata: %s\n\n\r\n", strlen(data) + 8, data));
}

static void put_whole(connection *c, const char *body) {
    char head[256];
    put(c, head, sprintf(head, "HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 00:00:00 GMT\r\nserver: uvicorn\r\n"
                               "content-length: %zu\r\ncontent-type: application/json\r\n\r\n", strlen(body)));
    put(c, body, strlen(body));
}

static void next_event(connection *c) {
    if (--c->left > 0) {
        put_event(c, WORD);
        return;
    }
    put_event(c, LAST);
    put_event(c, "[DONE]");
    put(c, "0\r\n\r\n", 5);
}

static void pace(connection *c, int on) {
    if (on) {
        c->previous = NULL;
        if ((c->next = paced)) paced->previous = c;
        paced = c;
        return;
    }
    if (c->previous) c->previous->next = c->next; else paced = c->next;
    if (c->next) c->next->previous = c->previous;
}

static void finish(connection *c) {
    if (c->left > 0 && interval) pace(c, 0);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static int flush(connection *c) {
    while (c->out_sent < c->out_size) {
        ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_size - c->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return -1;
        struct epoll_event wanted = {.events = EPOLLIN | (sent < 0 ? EPOLLOUT : 0), .data.ptr = c};
        if (sent < 0) return epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &wanted);
        c->out_sent += sent;
    }
    c->out_size = c->out_sent = 0;
    return 0;
}

static int has(const char *body, size_t size, const char *what) {
    return memmem(body, size, what, strlen(what)) != NULL;
}

static void answer_mcp(connection *c, const char *body, size_t size) {
    char out[2048];
    const char *id = memmem(body, size, "\"id\":", 5);
    if (!id) { /* a notification */
        put(c, ACCEPTED, strlen(ACCEPTED));
        return;
    }
    const char *said = has(body, size, "\"tools/call\"") ? MCP_RESULT : has(body, size, "\"tools/list\"") ? mcp_tools
                       : has(body, size, "\"initialize\"") ? MCP_INITIALIZED : MCP_UNKNOWN;
    snprintf(out, sizeof out, MCP_ANSWER, strtol(id + 5, NULL, 10), said);
    put_whole(c, out);
}

static void answer(connection *c, const char *body, size_t size) {
    if (has(body, size, "\"stream\":true") || has(body, size, "\"stream\": true")) {
        put(c, STREAM_HEAD, strlen(STREAM_HEAD));
        c->left = chunks;
        if (interval) pace(c, 1);
        else while (c->left > 0) next_event(c);
    } else {
        int result = has(body, size, "\"role\":\"tool\"") || has(body, size, "\"role\": \"tool\"");
        /* LiteLLM and ours prefix the names of an MCP server's tools. */
        char *wanted = has(body, size, "\"bench-get_current_weather\"") ? prefixed_calls
                       : has(body, size, "\"bench__get_current_weather\"") ? our_calls : calls;
        put_whole(c, has(body, size, "\"tools\"") && !result ? wanted : text);
    }
}

/* Answers every complete request; returns -1 if one cannot be parsed. */
static int serve(connection *c) {
    while (c->left == 0 || !interval) {
        char *end = memmem(c->in, c->in_size, "\r\n\r\n", 4);
        if (!end) return 0;
        size_t head = end - c->in + 4, body = 0;
        *end = 0;
        char *length = strcasestr(c->in, "\r\ncontent-length:");
        if (strcasestr(c->in, "\r\ntransfer-encoding:")) return -1; /* none of these gateways sends it */
        if (length) body = strtoul(length + 17, NULL, 10);
        *end = '\r';
        if (c->in_size < head + body) return 0;
        if (!strncmp(c->in, "POST /mcp ", 10)) answer_mcp(c, c->in + head, body);
        else if (!strncmp(c->in, "POST /v1/responses ", 19))
            put_whole(c, has(c->in + head, body, "\"function_call_output\"") ? mcp_text
                         : has(c->in + head, body, "\"mcp__bench__get_current_weather\"") ? agentic_calls : mcp_calls);
        else if (!strncmp(c->in, "POST ", 5)) answer(c, c->in + head, body);
        else if (!strncmp(c->in, "GET /v1/models ", 15)) put_whole(c, MODELS);
        else put_whole(c, "{}");
        c->in_size -= head + body;
        memmove(c->in, c->in + head + body, c->in_size);
    }
    return 0;
}

static int receive(connection *c) {
    for (;;) {
        if (c->in_room - c->in_size < 65536) {
            c->in_room = c->in_room * 2 + 65536;
            if (!(c->in = realloc(c->in, c->in_room))) fail("memory");
        }
        ssize_t got = recv(c->fd, c->in + c->in_size, c->in_room - c->in_size - 1, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) return -1;
        if (got < 0) return serve(c) || flush(c);
        c->in_size += got;
        c->in[c->in_size] = 0;
    }
}

static void tick(int timer) {
    uint64_t times;
    if (read(timer, &times, sizeof times) < 0) return;
    for (connection *c = paced, *next; c; c = next) {
        next = c->next;
        next_event(c);
        if (c->left == 0) pace(c, 0);
        if (flush(c)) shutdown(c->fd, SHUT_RDWR); /* epoll then reports the end */
    }
}

/* The weather first, then a different calculation each time. */
static void write_calls(char *out, const char *prefix, int count) {
    char list[4096], expression[64], name[64], *at = list;
    *list = 0;
    for (int i = 0; i < count; i++) {
        sprintf(expression, "{\\\"expression\\\": \\\"2+2*%d\\\"}", i + 2);
        sprintf(name, "%s%s", prefix, i ? "calculate_math" : "get_current_weather");
        at += sprintf(at, CALL, i ? "," : "", i, name, i ? expression : "{\\\"location\\\": \\\"Paris, France\\\"}");
    }
    sprintf(out, ANSWER, "null", list, "tool_calls");
}

static void write_mcp_calls(char *out, const char *weather, const char *math) {
    char both[1024];
    int first = sprintf(both, MCP_CALL ",", 0, 0, weather, "location", "Paris, France");
    sprintf(both + first, MCP_CALL, 1, 1, math, "expression", "2+2*3");
    sprintf(out, RESPONSE, both);
}

int main(int count, char **arguments) {
    if (count != 6) return fprintf(stderr, "usage: engine PORT CHUNKS INTERVAL_US CALLS POLLS\n"), 2;
    int polls = atoi(arguments[5]);
    chunks = atoi(arguments[2]);
    interval = atoi(arguments[3]);
    char words[1100] = "\"";
    for (int i = 0; i < 100; i++) strcat(words, "A word. ");
    sprintf(text, ANSWER, strcat(words, "\""), "", "stop");
    char message[2048];
    sprintf(message, MCP_TEXT, words);
    sprintf(mcp_text, RESPONSE, message);
    write_mcp_calls(mcp_calls, "get_current_weather", "calculate_math");
    write_mcp_calls(agentic_calls, "mcp__bench__get_current_weather", "mcp__bench__calculate_math");
    write_calls(calls, "", atoi(arguments[4]));
    write_calls(prefixed_calls, "bench-", atoi(arguments[4]));
    write_calls(our_calls, "bench__", atoi(arguments[4]));
    int tools = sprintf(mcp_tools, "\"result\":{\"tools\":[" MCP_TOOL ",", "get_current_weather", "Weather of a place", "location", "location");
    sprintf(mcp_tools + tools, MCP_TOOL "]}", "calculate_math", "Evaluates an expression", "expression", "expression");
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    poller = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = &listener}, events[512];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &wanted);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (interval) {
        struct timespec every = {interval / 1000000, interval % 1000000 * 1000L};
        timerfd_settime(timer, 0, &(struct itimerspec){every, every}, NULL);
        wanted.data.ptr = &timer;
        epoll_ctl(poller, EPOLL_CTL_ADD, timer, &wanted);
    }
    for (int empty = 0;;) {
        int ready = epoll_wait(poller, events, 512, empty < polls ? 0 : -1);
        empty = ready ? 0 : empty + 1;
        if (!ready) sched_yield();
        for (int i = 0; i < ready; i++) {
            connection *c = events[i].data.ptr;
            if (events[i].data.ptr == &timer) {
                tick(timer);
            } else if (events[i].data.ptr == &listener) {
                int fd;
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    if (!(c = calloc(1, sizeof *c))) fail("memory");
                    c->fd = fd;
                    wanted = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
                    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wanted);
                }
            } else if ((events[i].events & EPOLLIN ? receive(c) : 0) || flush(c)) {
                finish(c);
            }
        }
    }
}
