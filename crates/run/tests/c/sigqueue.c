// Signals with values, to threads and to the process; what is pending.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static sem_t ready, go;
static pthread_t target;
static volatile int codes, sum, count, right;

static void handler(int signal, siginfo_t *info, void *context) {
    count++;
    codes += info->si_code == SI_QUEUE;
    sum = sum * 10 + info->si_value.sival_int;
    right += pthread_equal(pthread_self(), target) && info->si_pid == getpid();
}

static sigset_t set_of(int one, int other) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, one);
    if (other) sigaddset(&set, other);
    return set;
}

static volatile pid_t number;

static void *waits(void *arg) {
    number = gettid();
    struct pollfd none = {.fd = -1};
    sem_post(&ready);
    int r = poll(&none, 1, 900000);
    return (void *)(long)(r * 100 + (errno == EINTR));
}

static void *blocks(void *arg) {
    sigset_t both = set_of(SIGRTMIN + 1, SIGUSR2), pending;
    pthread_sigmask(SIG_BLOCK, &both, NULL);
    sem_post(&ready);
    while (sem_wait(&go)) {}
    sigpending(&pending);
    int before = count;
    printf("pending %d %d\n", sigismember(&pending, SIGRTMIN + 1), sigismember(&pending, SIGUSR2));
    siginfo_t info;
    int signal = sigwaitinfo(&both, &info);
    printf("waited %d %d %d\n", signal == SIGUSR2, info.si_code == SI_QUEUE, info.si_value.sival_int);
    signal = sigwaitinfo(&both, &info);
    printf("waited %d %d %d\n", signal == SIGRTMIN + 1, info.si_code == SI_QUEUE, info.si_value.sival_int);
    // The others come at once, in order.
    pthread_sigmask(SIG_UNBLOCK, &both, NULL);
    sigpending(&pending);
    printf("let in %d, %d\n", count - before, sigismember(&pending, SIGRTMIN + 1));
    return NULL;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    sem_init(&ready, 0, 0);
    sem_init(&go, 0, 0);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    sigaction(SIGRTMIN + 1, &action, NULL);
    void *value;

    pthread_create(&target, NULL, waits, NULL);
    while (sem_wait(&ready)) {}
    // Again, until it has come to its wait.
    struct timespec moment = {0, 3000000};
    int code;
    do {
        code = pthread_sigqueue(target, SIGUSR1, (union sigval){.sival_int = 0});
        nanosleep(&moment, NULL);
    } while (pthread_tryjoin_np(target, &value) == EBUSY);
    printf("thread %d %d %d, %ld\n", code == 0 || code == ESRCH, codes == count, right == count, (long)value);

    printf("numbers %d %d %d\n", gettid() == getpid(), number != getpid(), syscall(SYS_gettid) == getpid());
    pthread_create(&target, NULL, blocks, NULL);
    while (sem_wait(&ready)) {}
    sum = 0;
    for (int i = 1; i < 5; i++) pthread_sigqueue(target, SIGRTMIN + 1, (union sigval){.sival_int = i});
    // Of these one is kept.
    pthread_sigqueue(target, SIGUSR2, (union sigval){.sival_int = 7});
    pthread_sigqueue(target, SIGUSR2, (union sigval){.sival_int = 8});
    sem_post(&go);
    pthread_join(target, NULL);
    printf("in order %d\n", sum);

    // To the process, and to oneself.
    target = pthread_self();
    sum = count = codes = right = 0;
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 4});
    printf("process %d %d %d %d\n", count, codes, sum, right);
    pthread_sigqueue(pthread_self(), SIGUSR1, (union sigval){.sival_int = 5});
    printf("itself %d %d %d %d\n", count, codes, sum, right);
    tgkill(getpid(), gettid(), SIGUSR1);
    code = tgkill(getpid(), -5, SIGUSR1);
    printf("by number %d, %d %d\n", count, code, errno == EINVAL);
    sigset_t usr1 = set_of(SIGUSR1, 0);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
    raise(SIGUSR1);
    printf("blocked %d", count);
    siginfo_t info;
    sigwaitinfo(&usr1, &info);
    printf(", as sent %d %d\n", info.si_code == SI_USER, info.si_pid == getpid());
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 6});
    sigwaitinfo(&usr1, &info);
    printf("queued %d %d\n", info.si_code == SI_QUEUE, info.si_value.sival_int);
    printf("wrong %d %d\n", pthread_sigqueue(pthread_self(), 99, (union sigval){0}), raise(-1));
    return 0;
}
