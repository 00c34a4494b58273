// Signals to the process: what a thread waits in that does not block them is interrupted,
// main's if it does not; others' is not. With SA_RESTART calls go on that can.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int ends[2];
static sem_t never;
static pid_t child;
static volatile int handled;

static void handler(int signal) { handled++; }

static void install(int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
}

static sigset_t set_of(int signal) {
    sigset_t set;
    sigemptyset(&set);
    if (signal) sigaddset(&set, signal);
    return set;
}
static void mask(int how, int signal) {
    sigset_t set = set_of(signal);
    pthread_sigmask(how, &set, NULL);
}

// What ends a call that goes on after the signal.
static void go_on(void) {
    if (write(ends[1], "A", 1) != 1) abort();
}

static long do_read(void) { char c; return read(ends[0], &c, 1); }
static long do_poll(void) { struct pollfd p = {.fd = ends[0], .events = POLLIN}; return poll(&p, 1, -1); }
static long do_select(void) { fd_set s; FD_ZERO(&s); FD_SET(ends[0], &s); return select(ends[0] + 1, &s, 0, 0, 0); }
static long do_epoll(void) {
    int e = epoll_create1(0); struct epoll_event v = {.events = EPOLLIN};
    epoll_ctl(e, EPOLL_CTL_ADD, ends[0], &v);
    long r = epoll_wait(e, &v, 1, -1); int saved = errno;
    close(e); errno = saved; return r;
}
static long do_nanosleep(void) { struct timespec t = {1000, 0}; long r = nanosleep(&t, &t); return r ? r * (t.tv_sec > 900) : r; }
static long do_sleep(void) { return sleep(1000) > 900 ? -1 : 0; }
static long do_sem(void) { return sem_wait(&never); }
static long do_pause(void) { return pause(); }
static long do_sigsuspend(void) { sigset_t none = set_of(0); return sigsuspend(&none); }
static long do_wait_any(void) { return waitpid(-1, NULL, 0); }
static long do_wait_one(void) { return waitpid(child, NULL, 0); }
static long do_sigwait(void) { sigset_t s = set_of(SIGHUP); return sigwaitinfo(&s, NULL); }
static long do_ppoll(void) { sigset_t none = set_of(0); struct pollfd p = {.fd = ends[0], .events = POLLIN}; return ppoll(&p, 1, NULL, &none); }
static long do_pselect(void) { sigset_t none = set_of(0); fd_set s; FD_ZERO(&s); FD_SET(ends[0], &s); return pselect(ends[0] + 1, &s, 0, 0, 0, &none); }
static long do_epwait(void) {
    sigset_t none = set_of(0); int e = epoll_create1(0); struct epoll_event v;
    long r = epoll_pwait(e, &v, 1, -1, &none); int saved = errno;
    close(e); errno = saved; return r;
}

// Whether they are restarted, and whether they come with a mask.
static struct { const char *name; long (*wait)(void); int restarts, masks; } waits[] = {
    {"read", do_read, 1}, {"poll", do_poll}, {"select", do_select}, {"epoll_wait", do_epoll},
    {"nanosleep", do_nanosleep}, {"sleep", do_sleep}, {"sem_wait", do_sem, 3}, {"pause", do_pause},
    {"sigsuspend", do_sigsuspend, 0, 1}, {"wait any", do_wait_any, 2}, {"wait one", do_wait_one, 2},
    {"sigwaitinfo", do_sigwait}, {"ppoll", do_ppoll, 0, 1}, {"pselect", do_pselect, 0, 1},
    {"epoll_pwait", do_epwait, 0, 1},
};
#define WAITS (int)(sizeof waits / sizeof *waits)

// 1 while main waits, then 2: it may be over before the sender has seen it (a signal of the
// round before may have a handler on another worker, and end it).
static volatile int waiting;
static const struct timespec moment = {0, 3000000};
static int goes_on;

static void *sends(void *arg) {
    // It blocks the signal itself.
    mask(SIG_BLOCK, SIGUSR1);
    while (!waiting) nanosleep(&moment, NULL);
    int before = handled;
    // Again, until it has come to a wait.
    do {
        nanosleep(&moment, NULL);
        kill(getpid(), SIGUSR1);
    } while (goes_on ? handled == before : waiting == 1);
    nanosleep(&moment, NULL);
    if (goes_on == 1) go_on();
    if (goes_on == 2) kill(child, SIGKILL);
    if (goes_on == 3) sem_post(&never);
    return NULL;
}

static void one(int i, const char *who, int flags) {
    pthread_t sender;
    int restarts = flags & SA_RESTART && waits[i].restarts;
    goes_on = restarts ? waits[i].restarts : 0;
    waiting = 0;
    if (waits[i].masks) mask(SIG_BLOCK, SIGUSR1);
    if (!child) {
        child = fork();
        if (child == 0) { for (;;) pause(); }
    }
    pthread_create(&sender, NULL, sends, NULL);
    int before = handled;
    waiting = 1;
    errno = 0;
    long r = waits[i].wait();
    int code = errno;
    waiting = 2;
    pthread_join(sender, NULL);
    if (waits[i].masks) mask(SIG_UNBLOCK, SIGUSR1);
    if (restarts && goes_on == 2) { r = r == child; child = 0; }
    printf("%s %s %d: %ld %s, %d\n", who, waits[i].name, flags != 0, r, code ? strerrorname_np(code) : "-", handled > before);
}

static void *other(void *arg) {
    mask(SIG_UNBLOCK, SIGUSR1);
    for (int i = 0; i < WAITS; i++) if (!waits[i].masks) one(i, "thread", 0);
    return NULL;
}

static void *not_for_it(void *arg) {
    // It lets the signal in, too, but main does, and is taken first.
    char c = 0;
    int pipe_of_mine = *(int *)arg;
    long r = read(pipe_of_mine, &c, 1);
    return (void *)(r * 100 + c);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (pipe(ends)) return 1;
    sem_init(&never, 0, 0);
    install(0);
    for (int i = 0; i < WAITS; i++) one(i, "main", 0);
    install(SA_RESTART);
    for (int i = 0; i < WAITS; i++) one(i, "main", SA_RESTART);
    install(0);
    int idle[2];
    if (pipe(idle)) return 1;
    pthread_t bystander;
    pthread_create(&bystander, NULL, not_for_it, idle);
    for (int i = 0; i < WAITS; i++) if (!waits[i].masks) one(i, "main before another", 0);
    if (write(idle[1], "B", 1) != 1) return 1;
    void *value;
    pthread_join(bystander, &value);
    printf("bystander %ld\n", (long)value);
    // One that main blocks goes to a thread that does not.
    mask(SIG_BLOCK, SIGUSR1);
    pthread_t thread;
    pthread_create(&thread, NULL, other, NULL);
    pthread_join(thread, NULL);
    // What came before a call does not end it.
    mask(SIG_UNBLOCK, SIGUSR1);
    int before = handled;
    kill(getpid(), SIGUSR1);
    struct timespec two = {0, 20000000};
    printf("before: %d %d\n", handled - before, nanosleep(&two, NULL));
    kill(getpid(), SIGUSR1);
    struct pollfd none = {.fd = -1};
    printf("before: %d %d\n", handled - before, poll(&none, 1, 20));
    // Timers are the process's, too.
    struct itimerval timer = {{0, 5000}, {0, 5000}};
    signal(SIGALRM, handler);
    siginterrupt(SIGALRM, 1);
    setitimer(ITIMER_REAL, &timer, NULL);
    long r = poll(&none, 1, -1);
    int code = errno;
    timer = (struct itimerval){0};
    setitimer(ITIMER_REAL, &timer, NULL);
    printf("timer: %ld %s\n", r, strerrorname_np(code));
    if (child) kill(child, SIGKILL);
    return 0;
}
