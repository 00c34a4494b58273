/* The promise: whatever is passed to the functions of crore.h that can be seen to be wrong is
 * an error code with a message. Each wrong thing is done outside of a runtime, in one, on a
 * thread beside it, and after its end. Prints what came otherwise. */
#include <crore.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull
#define FOR_EVER (~0ull)

static int failures;

static void fail(const char *what, int got, const char *wanted) {
    printf("%s: %d (%s), not %s\n", what, got, crore_last_error(), wanted);
    __atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST);
}

/* A code that is wanted, and words that say why. */
#define IS(call, code)                                                                  \
    do {                                                                                \
        int got_ = (call);                                                              \
        if (got_ != (code)) fail(#call, got_, #code);                                   \
        if (got_ != CRORE_OK && crore_last_error()[0] == 0) fail(#call, got_, "words"); \
    } while (0)

static void *same(void *arg) { return arg; }

/* Numbers that were never handles. */
static const uint64_t forged[] = {0, 1, 2, 1023, 1024, 1ull << 31, (1ull << 32) | 900,
                                  0x1000000010ull, 0x7fffffffffffffffull, 0x8000000000000000ull, ~0ull};
enum { FORGED = sizeof forged / sizeof *forged };

static uint64_t random_state = 88172645463325252ull;
static uint64_t any(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Of such numbers nothing is known, wherever they are asked about. */
static void forgeries(uint64_t id) {
    crore_task task = {0};
    crore_runtime runtime = {0};
    crore_mutex mutex = {0};
    crore_cond cond = {0};
    crore_channel channel = {0};
    crore_metrics metrics;
    void *value = NULL;
    int answer = 0;
    uint64_t number = 0;
    char text[8];
    task.id = runtime.id = mutex.id = cond.id = channel.id = id;
    metrics.size = sizeof metrics;
    IS(crore_join(task, &value), CRORE_INVALID);
    IS(crore_join_timeout(task, FOR_EVER, &value), CRORE_INVALID);
    IS(crore_detach(task), CRORE_INVALID);
    IS(crore_is_finished(task, &answer), CRORE_INVALID);
    IS(crore_task_id(task, &number), CRORE_INVALID);
    IS(crore_runtime_release(runtime), CRORE_INVALID);
    IS(crore_shutdown(runtime, FOR_EVER), CRORE_INVALID);
    IS(crore_runtime_metrics(runtime, &metrics), CRORE_INVALID);
    IS(crore_dump(runtime, text, sizeof text, NULL), CRORE_INVALID);
    IS(crore_spawn_on(runtime, NULL, same, NULL, &task), CRORE_INVALID);
    IS(crore_lock(mutex), CRORE_INVALID);
    IS(crore_try_lock(mutex), CRORE_INVALID);
    IS(crore_lock_timeout(mutex, FOR_EVER), CRORE_INVALID);
    IS(crore_unlock(mutex), CRORE_INVALID);
    IS(crore_mutex_free(mutex), CRORE_INVALID);
    IS(crore_cond_wait(cond, mutex), CRORE_INVALID);
    IS(crore_cond_wait_timeout(cond, mutex, FOR_EVER), CRORE_INVALID);
    IS(crore_cond_signal(cond), CRORE_INVALID);
    IS(crore_cond_broadcast(cond), CRORE_INVALID);
    IS(crore_cond_free(cond), CRORE_INVALID);
    IS(crore_send(channel, NULL), CRORE_INVALID);
    IS(crore_try_send(channel, NULL), CRORE_INVALID);
    IS(crore_send_timeout(channel, NULL, FOR_EVER), CRORE_INVALID);
    IS(crore_recv(channel, &value), CRORE_INVALID);
    IS(crore_try_recv(channel, &value), CRORE_INVALID);
    IS(crore_recv_timeout(channel, &value, FOR_EVER), CRORE_INVALID);
    IS(crore_channel_close(channel), CRORE_INVALID);
    IS(crore_channel_free(channel), CRORE_INVALID);
}

static void *shares(void *arg) {
    crore_options options = CRORE_OPTIONS_INIT;
    crore_task task;
    options.shared = 1;
    if (crore_spawn_with(&options, same, NULL, &task) == CRORE_OK) IS(crore_join(task, NULL), CRORE_SYSTEM);
    return arg;
}

static void nulls(void) {
    crore_runtime none = {0};
    crore_channel channel;
    IS(crore_run(NULL, NULL, NULL), CRORE_NULL);
    IS(crore_run_with(NULL, NULL, NULL, NULL), CRORE_NULL);
    IS(crore_spawn(NULL, NULL, NULL), CRORE_NULL);
    IS(crore_spawn_with(NULL, NULL, NULL, NULL), CRORE_NULL);
    IS(crore_spawn_on(none, NULL, NULL, NULL, NULL), CRORE_NULL);
    IS(crore_timeout(MS, NULL, NULL, NULL), CRORE_NULL);
    IS(crore_unhooked(NULL, NULL, NULL), CRORE_NULL);
    IS(crore_runtime_current(NULL), CRORE_NULL);
    IS(crore_runtime_metrics(none, NULL), CRORE_NULL);
    IS(crore_is_cancelled(NULL), CRORE_NULL);
    IS(crore_self(NULL), CRORE_NULL);
    IS(crore_key_create(NULL, NULL), CRORE_NULL);
    IS(crore_mutex_new(NULL), CRORE_NULL);
    IS(crore_cond_new(NULL), CRORE_NULL);
    IS(crore_channel_new(1, NULL), CRORE_NULL);
    IS(crore_channel_new(1, &channel), CRORE_OK);
    IS(crore_recv(channel, NULL), CRORE_NULL);
    IS(crore_try_recv(channel, NULL), CRORE_NULL);
    IS(crore_recv_timeout(channel, NULL, 1), CRORE_NULL);
    IS(crore_channel_free(channel), CRORE_OK);
}

/* Structs whose size is none, and values that are out of range. */
static void ranges(int inside) {
    static const size_t sizes[] = {0, 1, 7, 4097, (size_t)-1};
    crore_config config = CRORE_CONFIG_INIT;
    crore_options options = CRORE_OPTIONS_INIT;
    crore_task task;
    crore_channel channel;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        config.size = options.size = sizes[i];
        IS(crore_run_with(&config, same, NULL, NULL), CRORE_INVALID);
        IS(crore_spawn_with(&options, same, NULL, &task), CRORE_INVALID);
    }
    IS(crore_channel_new((size_t)-2, &channel), CRORE_OK);
    IS(crore_try_send(channel, NULL), CRORE_OK);
    IS(crore_channel_free(channel), CRORE_OK);
    if (!inside) {
        crore_config wrong = CRORE_CONFIG_INIT;
        wrong.workers = 0xffffffffu;
        IS(crore_run_with(&wrong, same, NULL, NULL), CRORE_SYSTEM);
        memset(&wrong, 0, sizeof wrong);
        wrong.size = sizeof wrong;
        wrong.max_coroutines = 0xffffffffu;
        IS(crore_run_with(&wrong, same, NULL, NULL), CRORE_OK);
        /* Made when they are needed first. */
        wrong.shared_stacks = 0xffffffffu;
        wrong.shared_stack_size = (size_t)-1;
        IS(crore_run_with(&wrong, shares, NULL, NULL), CRORE_OK);
        /* The longest times are times. */
        memset(&wrong, 0, sizeof wrong);
        wrong.size = sizeof wrong;
        wrong.drain_nanoseconds = wrong.watchdog_nanoseconds = FOR_EVER;
        IS(crore_run_with(&wrong, same, NULL, NULL), CRORE_OK);
        return;
    }
    options.size = sizeof options;
    options.stack_size = (size_t)-1;
    IS(crore_spawn_with(&options, same, NULL, &task), CRORE_INVALID);
    options.stack_size = 1;
    IS(crore_spawn_with(&options, same, NULL, &task), CRORE_OK);
    IS(crore_join(task, NULL), CRORE_OK);
    options.stack_size = 0;
    options.worker = 0xffffffffu;
    IS(crore_spawn_with(&options, same, NULL, &task), CRORE_INVALID);
    options.worker = 0;
    options.name = "\xff\xfe no text \x80";
    IS(crore_spawn_with(&options, same, NULL, &task), CRORE_OK);
    IS(crore_join_timeout(task, FOR_EVER, NULL), CRORE_OK);
}

static void outside(void) {
    uint64_t id;
    crore_runtime runtime;
    void *value;
    IS(crore_self(&id), CRORE_OUTSIDE);
    IS(crore_park(), CRORE_OUTSIDE);
    IS(crore_park_timeout(MS), CRORE_OUTSIDE);
    IS(crore_timeout(MS, same, NULL, NULL), CRORE_OUTSIDE);
    IS(crore_spawn(same, NULL, NULL), CRORE_OUTSIDE);
    IS(crore_spawn_with(NULL, same, NULL, NULL), CRORE_OUTSIDE);
    IS(crore_runtime_current(&runtime), CRORE_OUTSIDE);
    IS(crore_local_set(1, NULL), CRORE_OUTSIDE);
    IS(crore_local_get(1, &value), CRORE_OUTSIDE);
    IS(crore_yield(), CRORE_OK);
    IS(crore_sleep(1), CRORE_OK);
}

static void everything(int inside) {
    for (int i = 0; i < FORGED; i++) forgeries(forged[i]);
    for (int i = 0; i < 1000; i++) forgeries(any());
    /* Ids are of nothing, and that is no error. */
    for (int i = 0; i < FORGED; i++) {
        IS(crore_cancel(forged[i]), CRORE_OK);
        IS(crore_unpark(forged[i]), CRORE_OK);
    }
    for (int i = 0; i < 1000; i++) {
        IS(crore_cancel(any()), CRORE_OK);
        IS(crore_unpark(any()), CRORE_OK);
    }
    nulls();
    ranges(inside);
    for (int code = -3; code < 20; code++)
        if (crore_strerror(code) == NULL || crore_strerror(code)[0] == 0) fail("strerror", code, "words");
}

static void *beside(void *arg) {
    if (crore_last_error()[0] != 0) fail("a new thread", 0, "no words");
    everything(0);
    outside();
    return arg;
}

/* Handles that many use and one releases, at the same time. */
struct raced {
    crore_mutex mutex;
    crore_cond cond;
    crore_channel channel;
    crore_task task;
};

static void *races(void *arg) {
    struct raced *it = (struct raced *)arg;
    void *value;
    int finished;
    for (int i = 0; i < 200; i++) {
        if (crore_try_lock(it->mutex) == CRORE_OK) crore_unlock(it->mutex);
        crore_unlock(it->mutex);
        crore_cond_signal(it->cond);
        crore_try_send(it->channel, arg);
        crore_try_recv(it->channel, &value);
        crore_is_finished(it->task, &finished);
        if (i == 100) {
            crore_mutex_free(it->mutex);
            crore_cond_free(it->cond);
            crore_channel_free(it->channel);
            crore_join(it->task, NULL);
            crore_detach(it->task);
        }
    }
    return arg;
}

static void raced(void) {
    struct raced it;
    pthread_t threads[3];
    IS(crore_mutex_new(&it.mutex), CRORE_OK);
    IS(crore_cond_new(&it.cond), CRORE_OK);
    IS(crore_channel_new(2, &it.channel), CRORE_OK);
    IS(crore_spawn(same, NULL, &it.task), CRORE_OK);
    for (int i = 0; i < 3; i++) IS(pthread_create(&threads[i], NULL, races, &it), 0);
    for (int i = 0; i < 3; i++) IS(pthread_join(threads[i], NULL), 0);
    IS(crore_recv(it.channel, (void **)&it), CRORE_INVALID);
    IS(crore_detach(it.task), CRORE_INVALID);
}

static void *joins_itself(void *arg) {
    crore_task *me = (crore_task *)arg;
    IS(crore_join(*me, NULL), CRORE_STATE);
    IS(crore_join_timeout(*me, FOR_EVER, NULL), CRORE_STATE);
    IS(crore_run(same, NULL, NULL), CRORE_STATE);
    return NULL;
}

static void *parks(void *arg) {
    IS(crore_park(), CRORE_OK);
    return arg;
}

static void *joins(void *arg) {
    IS(crore_join(*(crore_task *)arg, NULL), CRORE_OK);
    return arg;
}

/* Whoever joins first has it. */
static void joined_twice(void) {
    crore_task it, other;
    uint64_t id;
    int finished = -1;
    IS(crore_spawn(joins_itself, &it, &it), CRORE_OK);
    IS(crore_join(it, NULL), CRORE_OK);
    IS(crore_spawn(parks, NULL, &it), CRORE_OK);
    IS(crore_spawn(joins, &it, &other), CRORE_OK);
    IS(crore_yield(), CRORE_OK);
    IS(crore_join(it, NULL), CRORE_STATE);
    IS(crore_join_timeout(it, FOR_EVER, NULL), CRORE_STATE);
    IS(crore_is_finished(it, NULL), CRORE_NULL);
    IS(crore_is_finished(it, &finished), CRORE_OK);
    IS(finished, 0);
    IS(crore_task_id(it, NULL), CRORE_NULL);
    IS(crore_task_id(it, &id), CRORE_OK);
    IS(crore_unpark(id), CRORE_OK);
    IS(crore_join(other, NULL), CRORE_OK);
    IS(crore_join(it, NULL), CRORE_INVALID);
}

/* What was freed once is not freed twice, and is of no use; what is in use is not freed. */
static void freed_twice(void) {
    crore_mutex mutex;
    crore_cond cond;
    crore_channel channel;
    crore_runtime runtime;
    crore_task task;
    void *value;
    IS(crore_mutex_new(&mutex), CRORE_OK);
    IS(crore_unlock(mutex), CRORE_STATE);
    IS(crore_lock(mutex), CRORE_OK);
    IS(crore_try_lock(mutex), CRORE_WOULD_BLOCK);
    IS(crore_lock_timeout(mutex, 1), CRORE_TIMEOUT);
    IS(crore_mutex_free(mutex), CRORE_STATE);
    IS(crore_unlock(mutex), CRORE_OK);
    IS(crore_unlock(mutex), CRORE_STATE);
    IS(crore_cond_new(&cond), CRORE_OK);
    IS(crore_cond_wait(cond, mutex), CRORE_STATE);
    IS(crore_cond_wait_timeout(cond, mutex, 1), CRORE_STATE);
    IS(crore_mutex_free(mutex), CRORE_OK);
    IS(crore_mutex_free(mutex), CRORE_INVALID);
    IS(crore_lock(mutex), CRORE_INVALID);
    IS(crore_cond_wait(cond, mutex), CRORE_INVALID);
    IS(crore_cond_free(cond), CRORE_OK);
    IS(crore_cond_free(cond), CRORE_INVALID);
    IS(crore_cond_signal(cond), CRORE_INVALID);
    IS(crore_channel_new(0, &channel), CRORE_OK);
    IS(crore_channel_close(channel), CRORE_OK);
    IS(crore_channel_close(channel), CRORE_CLOSED);
    IS(crore_send(channel, NULL), CRORE_CLOSED);
    IS(crore_recv(channel, &value), CRORE_CLOSED);
    IS(crore_channel_free(channel), CRORE_OK);
    IS(crore_channel_free(channel), CRORE_INVALID);
    IS(crore_recv(channel, &value), CRORE_INVALID);
    IS(crore_runtime_current(&runtime), CRORE_OK);
    IS(crore_runtime_release(runtime), CRORE_OK);
    IS(crore_runtime_release(runtime), CRORE_INVALID);
    IS(crore_dump(runtime, NULL, 0, NULL), CRORE_INVALID);
    IS(crore_spawn(same, NULL, &task), CRORE_OK);
    IS(crore_detach(task), CRORE_OK);
    IS(crore_detach(task), CRORE_INVALID);
    IS(crore_join(task, NULL), CRORE_INVALID);
}

/* Keys that there are not, and more than there can be. */
static void locals(void) {
    crore_runtime runtime;
    crore_metrics metrics;
    uint32_t key = 0;
    void *value;
    IS(crore_key_create(&key, NULL), CRORE_OK);
    IS(crore_local_get(key, NULL), CRORE_NULL);
    IS(crore_local_get(0, &value), CRORE_INVALID);
    IS(crore_local_get(key + 1, &value), CRORE_INVALID);
    IS(crore_local_set(0, &key), CRORE_INVALID);
    IS(crore_local_set(0xffffffffu, &key), CRORE_INVALID);
    while (key < 1024) IS(crore_key_create(&key, NULL), CRORE_OK);
    IS(crore_key_create(&key, NULL), CRORE_SYSTEM);
    IS(crore_runtime_current(&runtime), CRORE_OK);
    static const size_t sizes[] = {0, 1, 7, 4097, (size_t)-1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        metrics.size = sizes[i];
        IS(crore_runtime_metrics(runtime, &metrics), CRORE_INVALID);
    }
    IS(crore_runtime_metrics(runtime, NULL), CRORE_NULL);
    IS(crore_dump(runtime, NULL, 8, NULL), CRORE_NULL);
    IS(crore_runtime_release(runtime), CRORE_OK);
}

static crore_runtime kept;

static void *first(void *arg) {
    everything(1);
    raced();
    joined_twice();
    freed_twice();
    locals();
    IS(crore_runtime_current(&kept), CRORE_OK);
    pthread_t thread;
    IS(pthread_create(&thread, NULL, beside, NULL), 0);
    IS(pthread_join(thread, NULL), 0);
    return arg;
}

int main(void) {
    crore_metrics metrics;
    crore_task task;
    char text[64];
    size_t needed = 0;
    if (crore_last_error()[0] != 0) fail("at the start", 0, "no words");
    everything(0);
    outside();
    IS(crore_run(first, NULL, NULL), CRORE_OK);
    outside();
    /* Of a runtime that has ended. */
    metrics.size = sizeof metrics;
    IS(crore_runtime_metrics(kept, &metrics), CRORE_OK);
    IS(crore_dump(kept, NULL, 7, NULL), CRORE_NULL);
    IS(crore_dump(kept, text, sizeof text, &needed), CRORE_OK);
    IS(crore_spawn_on(kept, NULL, same, NULL, &task), CRORE_SYSTEM);
    IS(crore_shutdown(kept, 0), CRORE_OK);
    IS(crore_runtime_release(kept), CRORE_OK);
    IS(crore_runtime_release(kept), CRORE_INVALID);
    IS(crore_spawn_on(kept, NULL, same, NULL, &task), CRORE_INVALID);
    printf("%d failures\n", failures);
    return failures != 0;
}
