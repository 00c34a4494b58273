// The promise of co_routine.h: what libco's users rely on, in the order that they see it.
// Prints it; the test compares.
#include "co_routine.h"
#include "co_routine_specific.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <string>

static std::string said;
static void say(const std::string &what) { said += what + " "; }
static void line(const char *title) {
    printf("%s: %s\n", title, said.c_str());
    said.clear();
}

// Explicit resume and yield, nested.
static stCoRoutine_t *inner;
static void *runs_inner(void *) {
    say("inner1");
    co_yield_ct();
    say("inner2");
    return NULL;
}
static void *runs_outer(void *) {
    say(co_self() ? "self" : "nobody");
    co_create(&inner, NULL, runs_inner, NULL);
    co_resume(inner);
    say("outer1");
    co_yield_ct();
    co_resume(inner);
    say("outer2");
    return NULL;
}
static void nests() {
    stCoRoutine_t *outer = NULL;
    co_create(&outer, NULL, runs_outer, NULL);
    say("created");
    co_resume(outer);
    say("main");
    co_resume(outer);
    say(co_self() ? "self" : "nobody");
    co_release(outer);
    co_release(inner);
    line("nests");
}

// Long series of calls that need not wait do not give control back.
static int turns;
static void *generates(void *arg) {
    co_enable_hook_sys();
    int *ends = (int *)arg;
    for (;;) {
        for (int i = 0; i < 500; i++) {
            char byte = 'x';
            if (write(ends[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1) abort();
        }
        turns++;
        co_yield_ct();
    }
}
static void is_not_interrupted() {
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    stCoRoutine_t *co = NULL;
    co_create(&co, NULL, generates, ends);
    for (int i = 0; i < 10; i++) co_resume(co);
    say(std::to_string(turns));
    co_release(co);
    close(ends[0]);
    close(ends[1]);
    line("turns");
}

// A blocking call parks, and gives control back to what has resumed; the loop goes on.
static int left;
static int until_none(void *) { return left == 0 ? -1 : 0; }
static void *reads(void *arg) {
    co_enable_hook_sys();
    char byte = 0;
    say("reads");
    if (read(*(int *)arg, &byte, 1) == 1) say(std::string("got-") + byte);
    left--;
    return NULL;
}
static void *writes(void *arg) {
    co_enable_hook_sys();
    say("sleeps");
    poll(NULL, 0, 5);
    say("writes");
    if (write(*(int *)arg, "z", 1) != 1) abort();
    left--;
    return NULL;
}
static void parks() {
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    stCoRoutine_t *a = NULL, *b = NULL;
    left = 2;
    co_create(&a, NULL, reads, &ends[0]);
    co_create(&b, NULL, writes, &ends[1]);
    co_resume(a);
    say("main");
    co_resume(b);
    say("loop");
    co_eventloop(co_get_epoll_ct(), until_none, NULL);
    co_release(a);
    co_release(b);
    close(ends[0]);
    close(ends[1]);
    line("parks");
}

// A connection that is polled for, answered, polled for again: data, time limits, a resume
// by hand, and its end.
static int polled;
static void *polls(void *arg) {
    co_enable_hook_sys();
    const int fd = *(int *)arg, limits[] = {60000, 60000, 20, -1, 60000};
    for (int limit : limits) {
        struct pollfd entry = {fd, POLLIN, 0};
        struct timespec begun, ended;
        clock_gettime(CLOCK_MONOTONIC, &begun);
        int ready = co_poll(co_get_epoll_ct(), &entry, 1, limit);
        clock_gettime(CLOCK_MONOTONIC, &ended);
        long passed = (ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000;
        char bytes[16];
        if (ready == 0)
            say(passed >= limit && entry.revents == 0 ? "late" : "early");
        else if (entry.revents & POLLERR)
            say("reset");
        else if (ready == 1 && entry.revents == POLLIN)
            say(std::string(bytes, read(fd, bytes, sizeof bytes)));
        else
            say("wrong");
        polled++;
    }
    return NULL;
}
static int polled_enough(void *wanted) { return polled >= (int)(long)wanted ? -1 : 0; }
static void polls_until(int wanted) {
    co_eventloop(co_get_epoll_ct(), polled_enough, (void *)(long)wanted);
}
static void connections() {
    struct sockaddr_in address = {};
    socklen_t length = sizeof address;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0 ||
        connect(client, (struct sockaddr *)&address, length) != 0)
        abort();
    int server = accept(listener, NULL, NULL);
    stCoRoutine_t *co = NULL;
    co_create(&co, NULL, polls, &server);
    co_resume(co);
    if (write(client, "a", 1) != 1) abort();
    polls_until(1);
    if (write(client, "bb", 2) != 2) abort();
    polls_until(2);
    polls_until(3);
    co_resume(co);
    say("resumed");
    if (write(client, "c", 1) != 1) abort();
    polls_until(4);
    struct linger at_once = {1, 0};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(client);
    polls_until(5);
    co_release(co);
    close(server);
    close(listener);
    line("connections");
}

// Condition variables: signals, times, and what is resumed by hand.
static stCoCond_t *cond;
static void *waits(void *arg) {
    co_cond_timedwait(cond, (int)(long)arg);
    say("woken" + std::to_string((long)arg));
    left--;
    return NULL;
}
static void signals() {
    cond = co_cond_alloc();
    stCoRoutine_t *all[4];
    const long times[] = {-1, 0, 5, -2};
    for (int i = 0; i < 4; i++) {
        co_create(&all[i], NULL, waits, (void *)times[i]);
        co_resume(all[i]);
    }
    left = 4;
    co_cond_signal(cond);
    say("signalled");
    co_resume(all[3]);
    co_eventloop(co_get_epoll_ct(), [](void *) { return left == 1 ? -1 : 0; }, NULL);
    co_cond_broadcast(cond);
    co_eventloop(co_get_epoll_ct(), until_none, NULL);
    for (int i = 0; i < 4; i++) co_release(all[i]);
    co_cond_free(cond);
    line("signals");
}

// Values of each; reset begins anew.
struct value {
    int n;
};
CO_ROUTINE_SPECIFIC(value, mine);
static void *counts(void *) {
    mine->n++;
    co_yield_ct();
    mine->n++;
    say(std::to_string(mine->n));
    return NULL;
}
static void specifics() {
    stCoRoutine_t *a = NULL, *b = NULL;
    co_create(&a, NULL, counts, NULL);
    co_create(&b, NULL, counts, NULL);
    mine->n = 40;
    co_resume(a);
    co_resume(b);
    co_resume(a);
    co_resume(b);
    co_reset(a);
    co_resume(a);
    co_reset(a);
    co_resume(a);
    co_resume(a);
    say(std::to_string(mine->n));
    co_release(a);
    co_release(b);
    line("specific");
}

// Shared stacks: frames come and go.
static void *fills(void *arg) {
    char text[2000];
    memset(text, (int)(long)arg, sizeof text);
    for (int i = 0; i < 3; i++) {
        co_yield_ct();
        for (size_t at = 0; at < sizeof text; at++)
            if (text[at] != (char)(long)arg) abort();
    }
    say(std::string(1, text[1999]));
    return NULL;
}
static void shares() {
    stCoRoutineAttr_t attr;
    attr.share_stack = co_alloc_sharestack(2, 64 * 1024);
    stCoRoutine_t *all[6];
    for (int i = 0; i < 6; i++) co_create(&all[i], &attr, fills, (void *)(long)('a' + i));
    for (int turn = 0; turn < 4; turn++)
        for (int i = 0; i < 6; i++) co_resume(all[i]);
    for (int i = 0; i < 6; i++) co_release(all[i]);
    line("shares");
}

// The environment.
static void *sets(void *arg) {
    co_enable_hook_sys();
    setenv("CRORE_OWN", (const char *)arg, 1);
    setenv("CRORE_ALL", (const char *)arg, 1);
    co_yield_ct();
    const char *own = getenv("CRORE_OWN");
    say(own ? own : "none");
    unsetenv("CRORE_OWN");
    say(getenv("CRORE_OWN") ? "there" : "gone");
    return NULL;
}
static void environments() {
    const char *names[] = {"CRORE_OWN"};
    co_set_env_list(names, 1);
    setenv("CRORE_OWN", "main", 1);
    stCoRoutine_t *a = NULL, *b = NULL;
    co_create(&a, NULL, sets, (void *)"a");
    co_create(&b, NULL, sets, (void *)"b");
    co_resume(a);
    co_resume(b);
    co_resume(a);
    co_resume(b);
    say(getenv("CRORE_OWN"));
    say(getenv("CRORE_ALL"));
    say(getenv("CRORE_NO_SUCH") ? "there" : "null");
    co_release(a);
    co_release(b);
    line("environment");
}

// What libco leaves undefined.
static stCoRoutine_t *wrong;
static void *misuses(void *) {
    co_resume(wrong);
    co_release(wrong);
    co_eventloop(co_get_epoll_ct(), NULL, NULL);
    say("still-here");
    return NULL;
}
static void *elsewhere(void *) {
    co_resume(wrong);
    return NULL;
}
static void misuse() {
    co_yield_ct();
    co_create(&wrong, NULL, misuses, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, elsewhere, NULL);
    pthread_join(thread, NULL);
    co_resume(wrong);
    co_resume(wrong);
    co_release(wrong);
    co_release(wrong);
    co_resume(wrong);
    co_resume(NULL);
    say(std::to_string(co_create(NULL, NULL, misuses, NULL)));
    say(std::to_string(co_cond_signal(NULL)));
    say(std::to_string(co_cond_timedwait(cond, 1)));
    line("misuse");
}

int main() {
    nests();
    is_not_interrupted();
    parks();
    connections();
    signals();
    specifics();
    shares();
    environments();
    misuse();
    return 0;
}
