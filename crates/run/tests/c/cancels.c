// pthread_cancel and pthread_kill of threads in all kinds of waits, with cleanup handlers
// and keys: what plain threads do, coroutines do.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int ends[2], listener, pair[2];
static sem_t ready, never;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_t forever;
static pthread_key_t key;
static int cleaned, destroyed, disabled_done;
static __thread int mine;

static void cleanup(void *arg) {
    // May wait itself.
    usleep(1000);
    __atomic_add_fetch(&cleaned, mine, __ATOMIC_SEQ_CST);
}
static void cleanup_mutex(void *arg) {
    // Held again when a wait for a condition is cancelled.
    if (pthread_mutex_trylock(&mutex) == EBUSY) pthread_mutex_unlock(&mutex);
    else printf("the mutex was free\n");
}
static void destroy(void *value) { __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST); }

static long do_read(void) { char c; return read(ends[0], &c, 1); }
static long do_recv(void) { char c; return recv(pair[0], &c, 1, 0); }
static long do_accept(void) { return accept(listener, NULL, NULL); }
static long do_poll(void) { struct pollfd p = {.fd = ends[0], .events = POLLIN}; return poll(&p, 1, -1); }
static long do_select(void) { fd_set s; FD_ZERO(&s); FD_SET(ends[0], &s); return select(ends[0] + 1, &s, 0, 0, 0); }
static long do_epoll(void) {
    int e = epoll_create1(0); struct epoll_event v;
    long r = epoll_wait(e, &v, 1, -1); int saved = errno;
    close(e); errno = saved; return r;
}
static long do_usleep(void) { return usleep(900000000); }
static long do_nanosleep(void) { struct timespec t = {1000, 0}; long r = nanosleep(&t, &t); return r ? r * (t.tv_sec > 900) : r; }
static long do_sleep(void) { return sleep(1000) > 900 ? -1 : 0; }
static long do_sem(void) { return sem_wait(&never); }
static long do_cond(void) {
    pthread_mutex_lock(&mutex);
    pthread_cleanup_push(cleanup_mutex, NULL);
    pthread_cond_wait(&cond, &mutex);
    pthread_cleanup_pop(1);
    return 0;
}
static long do_join(void) { return pthread_join(forever, NULL); }
static long do_pause(void) { return pause(); }
static long do_waitpid(void) { return waitpid(-1, NULL, 0); }
static long do_sigwait(void) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGHUP); return sigwaitinfo(&s, NULL); }
static long do_spin(void) { for (;;) { sched_yield(); pthread_testcancel(); } }
static long do_write(void) { static char big[1 << 20]; long r; while ((r = write(pair[1], big, sizeof big)) > 0); return r; }

static struct { const char *name; long (*wait)(void); int by_signal; } waits[] = {
    {"read", do_read, 1}, {"recv", do_recv, 1}, {"accept", do_accept, 1}, {"poll", do_poll, 1},
    {"select", do_select, 1}, {"epoll_wait", do_epoll, 1}, {"usleep", do_usleep, 1},
    {"nanosleep", do_nanosleep, 1}, {"sleep", do_sleep, 1}, {"sem_wait", do_sem, 1},
    {"cond_wait", do_cond, 0}, {"join", do_join, 0}, {"pause", do_pause, 1},
    {"waitpid", do_waitpid, 1}, {"sigwaitinfo", do_sigwait, 1}, {"testcancel", do_spin, 0},
};
#define WAITS (int)(sizeof waits / sizeof *waits)

static void *runs(void *arg) {
    int i = (int)(long)arg;
    mine = i + 1;
    pthread_setspecific(key, &mine);
    pthread_cleanup_push(cleanup, NULL);
    sem_post(&ready);
    long r = waits[i].wait();
    if (r != -1 || errno != EINTR) printf("%s: %ld %s\n", waits[i].name, r, strerror(errno));
    pthread_cleanup_pop(0);
    return (void *)7;
}

static int handled, right;
static __thread pthread_t me;
static pthread_t target;
static void handler(int signal) {
    handled++;
    // In the thread that it was sent to, with its thread-locals.
    right += pthread_equal(pthread_self(), target) && mine > 0;
}

static void *sleeps(void *arg) { for (;;) usleep(1000000); }

static void *disables(void *arg) {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    sem_post(&ready);
    usleep(30000);
    disabled_done = 1;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    usleep(1);
    return (void *)8;
}
static void *restarts(void *arg) {
    char c = 0;
    mine = 1;
    sem_post(&ready);
    long r = read(ends[0], &c, 1);
    return (void *)(r * 100 + c);
}
static void *cancels_itself(void *arg) {
    pthread_cancel(pthread_self());
    pthread_testcancel();
    return (void *)9;
}
static void *async(void *arg) {
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_cancel(pthread_self());
    return (void *)9;
}
static void *at_once(void *arg) { usleep(1000000000); return (void *)9; }

static void install(int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 1;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    listen(listener, 5);
    sem_init(&ready, 0, 0);
    sem_init(&never, 0, 0);
    pthread_key_create(&key, destroy);
    pthread_create(&forever, NULL, sleeps, NULL);
    pid_t child = fork();
    if (child == 0) { pause(); _exit(0); }
    void *value;
    for (int i = 0; i < WAITS; i++) {
        pthread_t thread;
        int before = cleaned;
        pthread_create(&thread, NULL, runs, (void *)(long)i);
        sem_wait(&ready);
        usleep(3000);
        int code = pthread_cancel(thread);
        pthread_join(thread, &value);
        printf("cancel %s: %d %d %d\n", waits[i].name, code, value == PTHREAD_CANCELED, cleaned - before == i + 1);
    }
    printf("destroyed %d\n", destroyed);
    install(0);
    for (int i = 0; i < WAITS; i++) {
        if (!waits[i].by_signal) continue;
        int before = handled, before_right = right;
        pthread_create(&target, NULL, runs, (void *)(long)i);
        sem_wait(&ready);
        usleep(3000);
        int code = pthread_kill(target, SIGUSR1);
        pthread_join(target, &value);
        printf("kill %s: %d %ld %d %d\n", waits[i].name, code, (long)value, handled - before, right - before_right);
    }
    install(SA_RESTART);
    pthread_create(&target, NULL, restarts, NULL);
    sem_wait(&ready);
    usleep(3000);
    int before = handled;
    pthread_kill(target, SIGUSR1);
    while (handled == before) usleep(1000);
    write(ends[1], "A", 1);
    pthread_join(target, &value);
    printf("restarted: %ld\n", (long)value);
    pthread_t thread;
    pthread_create(&thread, NULL, disables, NULL);
    sem_wait(&ready);
    pthread_cancel(thread);
    pthread_join(thread, &value);
    printf("disabled: %d %d\n", disabled_done, value == PTHREAD_CANCELED);
    pthread_create(&thread, NULL, cancels_itself, NULL);
    pthread_join(thread, &value);
    printf("itself: %d\n", value == PTHREAD_CANCELED);
    pthread_create(&thread, NULL, async, NULL);
    pthread_join(thread, &value);
    printf("async: %d\n", value == PTHREAD_CANCELED);
    pthread_create(&thread, NULL, at_once, NULL);
    pthread_cancel(thread);
    pthread_join(thread, &value);
    printf("before it began: %d\n", value == PTHREAD_CANCELED);
    pthread_cancel(forever);
    pthread_join(forever, &value);
    printf("looping: %d\n", value == PTHREAD_CANCELED);
    kill(child, SIGKILL);
    printf("child: %d\n", waitpid(child, NULL, 0) == child);
    // A default action is the process's.
    fflush(stdout);
    pthread_create(&thread, NULL, at_once, NULL);
    usleep(3000);
    pthread_kill(thread, SIGTERM);
    pause();
}
