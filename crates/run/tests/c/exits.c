// Ends of threads: by return and by pthread_exit, with cleanup handlers and keys, detached,
// and of main, which the others outlive.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void say(const char *what) {
    puts(what);
    fflush(stdout);
}

static void cleanup(void *what) { say(what); }

static void deep(int depth) {
    pthread_cleanup_push(cleanup, depth ? "outer handler" : "inner handler");
    if (depth) deep(depth - 1);
    else pthread_exit((void *)5);
    pthread_cleanup_pop(0);
}

static pthread_key_t key;

static void *exits(void *arg) {
    pthread_setspecific(key, "key");
    deep(1);
    return arg;
}

static void *returns(void *arg) {
    pthread_cleanup_push(cleanup, "popped handler");
    usleep(1000);
    pthread_cleanup_pop(1);
    return arg;
}

static void *last(void *arg) {
    usleep(200000);
    say("the last thread");
    return arg;
}

static void at_exit(void) { say("exit handlers"); }

int main(int argc, char **argv) {
    atexit(at_exit);
    pthread_key_create(&key, cleanup);
    pthread_t thread;
    void *value;
    pthread_create(&thread, NULL, exits, NULL);
    pthread_join(thread, &value);
    printf("%ld\n", (long)value);
    pthread_create(&thread, NULL, returns, (void *)6);
    pthread_join(thread, &value);
    printf("%ld\n", (long)value);
    printf("%d %s\n", argc, argv[argc - 1]);
    fflush(stdout);
    pthread_create(&thread, NULL, last, NULL);
    pthread_detach(thread);
    if (argc > 1) {
        usleep(400000);
        exit(7);
    }
    pthread_cleanup_push(cleanup, "main's handler");
    pthread_exit(NULL);
    pthread_cleanup_pop(0);
}
