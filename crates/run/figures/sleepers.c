// Starts many threads that sleep, all at once, and joins them. Says in JSON how long it took
// until all had started, how long in all, and what memory the sleeping ones take.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_there = PTHREAD_COND_INITIALIZER, end = PTHREAD_COND_INITIALIZER;
static int wanted, there, ended;
static long sum;
static __thread long mine;

static void *sleeps(void *arg) {
    mine = (long)arg;
    pthread_mutex_lock(&mutex);
    if (++there == wanted) pthread_cond_signal(&all_there);
    pthread_mutex_unlock(&mutex);
    usleep(1000);
    pthread_mutex_lock(&mutex);
    while (!ended) pthread_cond_wait(&end, &mutex);
    sum += mine;
    pthread_mutex_unlock(&mutex);
    return arg;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

// In KiB, of /proc/self/status.
static long status(const char *what) {
    char line[200];
    long value = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, what, strlen(what))) value = atol(line + strlen(what) + 1);
    fclose(file);
    return value;
}

int main(int argc, char **argv) {
    wanted = atoi(argv[1]);
    pthread_t *threads = calloc(wanted, sizeof *threads);
    memset(threads, 1, wanted * sizeof *threads);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    long before = status("VmRSS") + status("VmPTE");
    double begun = now();
    for (long i = 0; i < wanted; i++) {
        int code = pthread_create(&threads[i], &attr, sleeps, (void *)i);
        if (code) {
            printf("{\"threads\": %ld, \"error\": \"%s\"}\n", i, strerror(code));
            return 1;
        }
    }
    pthread_mutex_lock(&mutex);
    while (there < wanted) pthread_cond_wait(&all_there, &mutex);
    pthread_mutex_unlock(&mutex);
    double started = now() - begun;
    usleep(100000);
    double asleep = now();
    long tables = status("VmPTE"), resident = status("VmRSS");
    pthread_mutex_lock(&mutex);
    ended = 1;
    pthread_cond_broadcast(&end);
    pthread_mutex_unlock(&mutex);
    long joined = 0;
    for (int i = 0; i < wanted; i++) {
        void *value;
        pthread_join(threads[i], &value);
        joined += (long)value;
    }
    double all = started + (now() - asleep);
    printf("{\"threads\": %d, \"right\": %s, \"started_seconds\": %.3f, \"seconds\": %.3f, "
           "\"bytes_each\": %ld}\n",
           wanted, sum == joined && sum == (long)wanted * (wanted - 1) / 2 ? "true" : "false",
           started, all, (resident + tables - before) * 1024 / wanted);
}
