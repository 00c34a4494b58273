/* The promise of crore.h, function by function: prints what happened, which the test
 * compares. Built as C and as C++. */
#include <crore.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 1000000ull
#define IS(call, code) is(#call, (call), code)

static int failures;

static void is(const char *what, int got, int wanted) {
    if (got != wanted) {
        printf("%s: %d (%s: %s), not %d\n", what, got, crore_strerror(got), crore_last_error(), wanted);
        failures++;
    }
}

static void *same(void *arg) { return arg; }

static void *parks(void *arg) {
    int *place = (int *)arg;
    __atomic_store_n(place, -2, __ATOMIC_SEQ_CST);
    int code = crore_park();
    __atomic_store_n(place, code, __ATOMIC_SEQ_CST);
    return arg;
}

static void *reads(void *arg) {
    int *end = (int *)arg;
    char byte = 0;
    ssize_t n = read(end[0], &byte, 1);
    if (n < 0) return (void *)(size_t)errno;
    return (void *)(size_t)byte;
}

static void *sleeps(void *arg) {
    (void)arg;
    return (void *)(size_t)crore_sleep(3600000 * MS);
}

static void *outside(void *arg) {
    crore_runtime runtime = *(crore_runtime *)arg;
    crore_task task;
    void *result = NULL;
    IS(crore_spawn(same, arg, NULL), CRORE_OUTSIDE);
    IS(crore_park(), CRORE_OUTSIDE);
    IS(crore_local_set(1, arg), CRORE_OUTSIDE);
    IS(crore_timeout(MS, same, arg, NULL), CRORE_OUTSIDE);
    IS(crore_spawn_on(runtime, NULL, same, arg, &task), CRORE_OK);
    IS(crore_join(task, &result), CRORE_OK);
    IS(result == arg, 1);
    return NULL;
}

static void coroutines(void) {
    crore_task task, none = {0};
    uint64_t me, id;
    int code = -1, finished = -1;
    void *result = NULL;
    IS(crore_spawn(NULL, NULL, &task), CRORE_NULL);
    IS(crore_spawn(same, &code, &task), CRORE_OK);
    IS(crore_join(task, &result), CRORE_OK);
    IS(result == &code, 1);
    IS(crore_join(task, &result), CRORE_INVALID);
    IS(crore_detach(task), CRORE_INVALID);
    IS(crore_join(none, NULL), CRORE_INVALID);
    IS(crore_detach(none), CRORE_INVALID);
    none.id = 0xffffffffffffffffull;
    IS(crore_is_finished(none, &finished), CRORE_INVALID);
    IS(crore_self(&me), CRORE_OK);
    IS(crore_self(NULL), CRORE_NULL);

    IS(crore_spawn(parks, &code, &task), CRORE_OK);
    IS(crore_yield(), CRORE_OK);
    IS(crore_is_finished(task, &finished), CRORE_OK);
    IS(finished, 0);
    IS(crore_join_timeout(task, MS, NULL), CRORE_TIMEOUT);
    IS(crore_task_id(task, &id), CRORE_OK);
    IS(crore_unpark(id), CRORE_OK);
    IS(crore_join(task, NULL), CRORE_OK);
    IS(code, CRORE_OK);
    IS(crore_unpark(id), CRORE_OK);
    IS(crore_cancel(12345), CRORE_OK);

    code = -1;
    IS(crore_spawn(parks, &code, &task), CRORE_OK);
    /* On another worker it may not have begun; cancelled then, it never would. */
    while (__atomic_load_n(&code, __ATOMIC_SEQ_CST) != -2) IS(crore_yield(), CRORE_OK);
    IS(crore_task_id(task, &id), CRORE_OK);
    IS(crore_cancel(id), CRORE_OK);
    IS(crore_join(task, NULL), CRORE_OK);
    IS(code, CRORE_CANCELLED);

    int ends[2];
    IS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    IS(crore_spawn(reads, ends, &task), CRORE_OK);
    IS(crore_yield(), CRORE_OK);
    IS((int)write(ends[1], "x", 1), 1);
    IS(crore_join(task, &result), CRORE_OK);
    IS((int)(size_t)result, 'x');
    IS(crore_timeout(2 * MS, reads, ends, &result), CRORE_TIMEOUT);
    IS(crore_timeout(2 * MS, sleeps, NULL, &result), CRORE_TIMEOUT);
    IS(crore_timeout(3600000 * MS, same, ends, &result), CRORE_OK);
    IS(result == ends, 1);
    IS(crore_unhooked(same, &code, &result), CRORE_OK);
    IS(crore_is_cancelled(&finished), CRORE_OK);
    IS(finished, 0);
    close(ends[0]);
    close(ends[1]);

    crore_options options = CRORE_OPTIONS_INIT;
    options.name = "named";
    options.stack_size = 256 << 10;
    IS(crore_spawn_with(&options, same, NULL, &task), CRORE_OK);
    IS(crore_join(task, NULL), CRORE_OK);
    options.shared = 1;
    IS(crore_spawn_with(&options, same, NULL, NULL), CRORE_OK);
    options.shared = 0;
    options.worker = 1000;
    IS(crore_spawn_with(&options, same, NULL, &task), CRORE_INVALID);
    options.size = 1;
    IS(crore_spawn_with(&options, same, NULL, &task), CRORE_INVALID);
}

static void runtimes(void) {
    crore_runtime runtime;
    crore_metrics metrics;
    char text[4096];
    size_t needed = 0;
    pthread_t thread;
    IS(crore_run(same, NULL, NULL), CRORE_STATE);
    IS(crore_runtime_current(&runtime), CRORE_OK);
    metrics.size = sizeof metrics;
    IS(crore_runtime_metrics(runtime, &metrics), CRORE_OK);
    IS(metrics.spawned >= metrics.ended && metrics.ended > 0, 1);
    IS(crore_dump(runtime, NULL, 0, &needed), CRORE_OK);
    /* A worker that is kept from its processor for a second is left out. */
    do {
        IS(crore_dump(runtime, text, sizeof text, &needed), CRORE_OK);
    } while (strstr(text, "'main'") == NULL);
    IS(needed > 1, 1);
    IS(pthread_create(&thread, NULL, outside, &runtime), 0);
    IS(pthread_join(thread, NULL), 0);
    IS(crore_shutdown(runtime, 3600000 * MS), CRORE_OK);
    IS(crore_runtime_release(runtime), CRORE_OK);
    IS(crore_runtime_release(runtime), CRORE_INVALID);
    IS(crore_shutdown(runtime, 0), CRORE_INVALID);
}

struct shared {
    crore_mutex mutex;
    crore_cond cond;
    crore_channel channel;
    int ready;
};

static void *signals(void *arg) {
    struct shared *s = (struct shared *)arg;
    IS(crore_lock(s->mutex), CRORE_OK);
    s->ready = 1;
    IS(crore_cond_signal(s->cond), CRORE_OK);
    IS(crore_unlock(s->mutex), CRORE_OK);
    for (size_t i = 1; i <= 100; i++) IS(crore_send(s->channel, (void *)i), CRORE_OK);
    IS(crore_channel_close(s->channel), CRORE_OK);
    return NULL;
}

static void *waits_cut_short(void *arg) {
    struct shared *s = (struct shared *)arg;
    IS(crore_lock(s->mutex), CRORE_OK);
    IS(crore_cond_wait(s->cond, s->mutex), CRORE_CANCELLED);
    IS(crore_unlock(s->mutex), CRORE_STATE);
    return NULL;
}

static void locks(void) {
    struct shared s;
    size_t sum = 0;
    void *value;
    crore_task task;
    s.ready = 0;
    IS(crore_mutex_new(&s.mutex), CRORE_OK);
    IS(crore_mutex_new(NULL), CRORE_NULL);
    IS(crore_cond_new(&s.cond), CRORE_OK);
    IS(crore_channel_new(4, &s.channel), CRORE_OK);
    IS(crore_unlock(s.mutex), CRORE_STATE);
    IS(crore_cond_wait(s.cond, s.mutex), CRORE_STATE);
    IS(crore_lock(s.mutex), CRORE_OK);
    IS(crore_try_lock(s.mutex), CRORE_WOULD_BLOCK);
    IS(crore_lock_timeout(s.mutex, MS), CRORE_TIMEOUT);
    IS(crore_mutex_free(s.mutex), CRORE_STATE);
    IS(crore_cond_wait_timeout(s.cond, s.mutex, MS), CRORE_TIMEOUT);
    IS(crore_spawn(signals, &s, &task), CRORE_OK);
    while (!s.ready) IS(crore_cond_wait(s.cond, s.mutex), CRORE_OK);
    IS(crore_unlock(s.mutex), CRORE_OK);
    while (crore_recv(s.channel, &value) == CRORE_OK) sum += (size_t)value;
    IS((int)sum, 5050);
    IS(crore_recv(s.channel, &value), CRORE_CLOSED);
    IS(crore_try_recv(s.channel, &value), CRORE_CLOSED);
    IS(crore_send(s.channel, NULL), CRORE_CLOSED);
    IS(crore_join(task, NULL), CRORE_OK);
    IS(crore_channel_close(s.channel), CRORE_CLOSED);
    IS(crore_channel_free(s.channel), CRORE_OK);
    IS(crore_channel_free(s.channel), CRORE_INVALID);
    IS(crore_recv(s.channel, &value), CRORE_INVALID);
    IS(crore_channel_new(SIZE_MAX, &s.channel), CRORE_OK);
    IS(crore_try_recv(s.channel, &value), CRORE_WOULD_BLOCK);
    IS(crore_recv_timeout(s.channel, &value, MS), CRORE_TIMEOUT);
    IS(crore_recv(s.channel, NULL), CRORE_NULL);
    IS(crore_channel_free(s.channel), CRORE_OK);
    IS(crore_channel_new(0, &s.channel), CRORE_OK);
    IS(crore_try_send(s.channel, NULL), CRORE_WOULD_BLOCK);
    IS(crore_send_timeout(s.channel, NULL, MS), CRORE_TIMEOUT);
    IS(crore_channel_free(s.channel), CRORE_OK);
    IS(crore_timeout(2 * MS, waits_cut_short, &s, NULL), CRORE_TIMEOUT);
    IS(crore_cond_free(s.cond), CRORE_OK);
    IS(crore_cond_broadcast(s.cond), CRORE_INVALID);
    IS(crore_mutex_free(s.mutex), CRORE_OK);
    IS(crore_lock(s.mutex), CRORE_INVALID);
}

static uint32_t key;
static int destroyed;

static void *destroy(void *value) {
    destroyed += *(int *)value;
    return NULL;
}

static void *has_local(void *arg) {
    void *value = arg;
    IS(crore_local_get(key, &value), CRORE_OK);
    IS(value == NULL, 1);
    IS(crore_local_set(key, arg), CRORE_OK);
    IS(crore_yield(), CRORE_OK);
    IS(crore_local_get(key, &value), CRORE_OK);
    IS(value == arg, 1);
    return NULL;
}

static void locals(void) {
    int values[2] = {1, 2};
    crore_task tasks[2];
    destroyed = 0;
    IS(crore_key_create(&key, destroy), CRORE_OK);
    for (int i = 0; i < 2; i++) IS(crore_spawn(has_local, values + i, tasks + i), CRORE_OK);
    for (int i = 0; i < 2; i++) IS(crore_join(tasks[i], NULL), CRORE_OK);
    IS(destroyed, 3);
    IS(crore_local_set(key + 1, values), CRORE_INVALID);
    IS(crore_local_get(0, (void **)&values), CRORE_INVALID);
}

static void *first(void *arg) {
    coroutines();
    locks();
    locals();
    runtimes();
    return arg;
}

int main(void) {
    int answer = 7;
    void *result = NULL;
    crore_config config = CRORE_CONFIG_INIT;
    IS(crore_run(first, &answer, &result), CRORE_OK);
    IS(result == &answer, 1);
    config.workers = 2;
    IS(crore_run_with(&config, first, &answer, &result), CRORE_OK);
    config.workers = 1000000;
    IS(crore_run_with(&config, same, NULL, NULL), CRORE_SYSTEM);
    IS(crore_run(NULL, NULL, NULL), CRORE_NULL);
    IS(crore_hooks_active(), 1);
    printf("%s; %d failures\n", crore_version(), failures);
    return failures != 0;
}
