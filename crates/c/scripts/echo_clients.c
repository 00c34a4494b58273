/* Connections that each send some bytes, await them, and send them again: one thread that
 * asks epoll for many at a time, so that the server is what is busy.
 *
 *   echo_clients PORT CONNECTIONS SECONDS
 *
 * Prints "ready" when all are connected and have had one answer, then for each second how
 * many answers came. A wrong or missing answer is an error. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 8, EVENTS = 512 };

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void ask(int fd) {
    char bytes[BYTES];
    memset(bytes, (char)fd, sizeof bytes);
    if (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) != BYTES) fail("send");
}

static void take(int fd) {
    char bytes[BYTES];
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got != BYTES) {
        fprintf(stderr, "an answer of %zd bytes\n", got);
        exit(1);
    }
    for (int at = 0; at < BYTES; at++)
        if (bytes[at] != (char)fd) fail("a wrong answer");
}

/* One at a time, each answered before the next knocks: no backlog is too short. */
static int connected(const struct sockaddr_in *address) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) fail("socket");
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ask(fd);
    struct pollfd answer = {fd, POLLIN, 0};
    if (poll(&answer, 1, 10000) != 1) {
        fprintf(stderr, "no answer within ten seconds\n");
        exit(1);
    }
    take(fd);
    return fd;
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    int connections = atoi(arguments[2]), seconds = atoi(arguments[3]);
    struct sockaddr_in address = {0};
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)atoi(arguments[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    int epoll = epoll_create1(0);
    int *all = calloc((size_t)connections, sizeof *all);
    if (epoll < 0 || all == NULL) fail("epoll");
    for (int i = 0; i < connections; i++) {
        all[i] = connected(&address);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = all[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i], &event) != 0) fail("epoll_ctl");
    }
    printf("ready\n");
    fflush(stdout);
    for (int i = 0; i < connections; i++) ask(all[i]);

    static struct epoll_event events[EVENTS];
    double begun = now();
    long answers = 0;
    for (int second = 1; second <= seconds;) {
        int ready = epoll_wait(epoll, events, EVENTS, 10000);
        if (ready == 0) {
            fprintf(stderr, "no answer within ten seconds\n");
            return 1;
        }
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            take(events[i].data.fd);
            ask(events[i].data.fd);
            answers++;
        }
        if (now() >= begun + second) {
            printf("%ld\n", answers);
            fflush(stdout);
            answers = 0;
            second++;
        }
    }
    return 0;
}
