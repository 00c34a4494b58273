// Signals of a threaded program: one thread waits for them, the others block them; masks
// are each thread's own.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void handler(int signal) { handled += signal == SIGUSR1; }

static int blocks(int signal) {
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    return sigismember(&set, signal);
}

static void *blocks_all(void *arg) {
    sigset_t set;
    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    usleep(50000);
    return (void *)(long)(blocks(SIGUSR1) * 10 + blocks(SIGTERM));
}

static void *waits(void *arg) {
    sigset_t set;
    int signal = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigwait(&set, &signal);
    return (void *)(long)(signal == SIGTERM);
}

int main(void) {
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    pthread_t waiter, blocker;
    pthread_create(&waiter, NULL, waits, NULL);
    pthread_create(&blocker, NULL, blocks_all, NULL);
    usleep(10000);
    // The blocker blocks it, main does not.
    kill(getpid(), SIGUSR1);
    while (!handled) usleep(1000);
    kill(getpid(), SIGTERM);
    void *waited, *blocked;
    pthread_join(waiter, &waited);
    pthread_join(blocker, &blocked);
    printf("%d %ld %ld %d %d\n", (int)handled, (long)waited, (long)blocked, blocks(SIGUSR1), blocks(SIGTERM));
    raise(SIGUSR1);
    printf("%d\n", (int)handled);
    return 0;
}
