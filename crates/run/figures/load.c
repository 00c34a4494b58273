// Load on an echo server: so many connections, each with one message under way. Says in JSON
// how many answers there were in a second, and what of its processor the server used.
//
//   load PORT CONNECTIONS SECONDS BYTES PID-OF-SERVER
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

// Processor time of a process, in seconds.
static double cpu(int pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) fclose(file);
    text[len] = 0;
    unsigned long user = 0, system = 0;
    char *rest = strrchr(text, ')');
    if (rest) sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

struct connection {
    int fd, missing;
    double sent;
};

// Times by their logarithm, 16 to the octave of microseconds.
static uint64_t times[32 * 16];
static void note(double seconds) {
    double micros = seconds * 1e6 < 1 ? 1 : seconds * 1e6;
    int octave = 0;
    while (micros >= 2 && octave < 31) micros /= 2, octave++;
    times[octave * 16 + (int)((micros - 1) * 16) % 16]++;
}
static double quantile(double share) {
    uint64_t all = 0, below = 0;
    for (int i = 0; i < 32 * 16; i++) all += times[i];
    for (int i = 0; i < 32 * 16; i++)
        if ((below += times[i]) >= share * all) return (double)(1L << i / 16) * (1 + (i % 16 + 1) / 16.);
    return 0;
}

int main(int argc, char **argv) {
    int port = atoi(argv[1]), count = atoi(argv[2]), bytes = atoi(argv[4]), server = atoi(argv[5]);
    double seconds = atof(argv[3]);
    struct rlimit most;
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    struct connection *all = calloc(count, sizeof *all);
    int epoll = epoll_create1(0), on = 1;
    char *message = calloc(1, bytes), *answer = malloc(bytes);
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (fd < 0 || connect(fd, (void *)&address, sizeof address)) {
            printf("{\"connections\": %d, \"error\": \"%s\"}\n", i, strerror(errno));
            return 1;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        all[i] = (struct connection){.fd = fd};
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
    // Each has been answered once before anything is measured.
    for (int i = 0; i < count; i++) {
        if (write(all[i].fd, message, bytes) != bytes) return 1;
        for (int got = 0, more; got < bytes; got += more)
            if ((more = read(all[i].fd, answer, bytes - got)) <= 0) return 1;
    }
    double begun = now(), used = cpu(server), end = begun + seconds, at = begun;
    for (int i = 0; i < count; i++) {
        all[i].missing = bytes;
        all[i].sent = now();
        if (write(all[i].fd, message, bytes) != bytes) return 1;
    }
    long answers = 0;
    struct epoll_event events[256];
    while (at < end) {
        int ready = epoll_wait(epoll, events, 256, 100);
        at = now();
        for (int i = 0; i < ready; i++) {
            struct connection *one = &all[events[i].data.u32];
            int got = read(one->fd, answer, one->missing);
            if (got <= 0) {
                printf("{\"connections\": %d, \"error\": \"a connection ended\"}\n", count);
                return 1;
            }
            if (one->missing -= got) continue;
            note(at - one->sent);
            answers++;
            one->missing = bytes;
            one->sent = at;
            if (write(one->fd, message, bytes) != bytes) return 1;
        }
    }
    double took = at - begun, cpu_seconds = cpu(server) - used;
    printf("{\"connections\": %d, \"requests_per_second\": %.0f, \"requests_per_cpu_second\": %.0f, "
           "\"p50_us\": %.0f, \"p99_us\": %.0f}\n",
           count, answers / took, cpu_seconds > 0 ? answers / cpu_seconds : 0, quantile(.5), quantile(.99));
}
