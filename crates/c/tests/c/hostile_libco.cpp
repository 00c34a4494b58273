// The promise: what libco leaves undefined and can be seen to be wrong does nothing, and a
// message says why. Each wrong thing is done outside of coroutines, in one on a stack of its
// own, in one on a shared stack, and on another thread. Prints what came otherwise.
#include "co_routine.h"
#include <crore.h>

#include <climits>
#include <cstdio>
#include <cstring>
#include <string>

#include <poll.h>
#include <pthread.h>

static int failures;

#define IS(what) \
    do { \
        if (!(what)) { \
            std::printf("%d: not %s (%s)\n", __LINE__, #what, crore_last_error()); \
            failures++; \
        } \
    } while (0)

// Of a call that returns nothing: the words are those that are wanted.
#define SAYS(call, words) \
    do { \
        call; \
        if (!std::strstr(crore_last_error(), words)) { \
            std::printf("%d: %s says \"%s\"\n", __LINE__, #call, crore_last_error()); \
            failures++; \
        } \
        crore_cond_signal(crore_cond{0}); /* other words */ \
    } while (0)

static void *nothing(void *) { return NULL; }
static void *yields(void *) {
    co_yield_ct();
    return NULL;
}

// Numbers that were never handles.
static void forgeries() {
    static const unsigned long long forged[] = {1, 2, 1023, 1ull << 31, (1ull << 32) | 900, 1ull << 47, ~0ull};
    for (unsigned long long number : forged) {
        void *it = reinterpret_cast<void *>(number);
        stCoRoutine_t *co = static_cast<stCoRoutine_t *>(it);
        stCoCond_t *cond = static_cast<stCoCond_t *>(it);
        SAYS(co_resume(co), "no such coroutine");
        SAYS(co_yield(co), "no such coroutine");
        SAYS(co_reset(co), "no such coroutine");
        SAYS(co_release(co), "no such coroutine");
        IS(co_cond_signal(cond) != 0);
        IS(co_cond_broadcast(cond) != 0);
        IS(co_cond_free(cond) != 0);
        IS(co_cond_timedwait(cond, 1) != 0);
        stCoRoutineAttr_t attr;
        attr.share_stack = static_cast<stShareStack_t *>(it);
        stCoRoutine_t *place = co;
        IS(co_create(&place, &attr, nothing, NULL) != 0 && place == co);
    }
}

static void nulls(bool inside) {
    SAYS(co_resume(NULL), "never made");
    SAYS(co_yield(NULL), "never made");
    SAYS(co_reset(NULL), "never made");
    SAYS(co_release(NULL), "never made");
    IS(co_create(NULL, NULL, nothing, NULL) == CRORE_NULL);
    IS(co_cond_signal(NULL) != 0);
    IS(co_cond_broadcast(NULL) != 0);
    IS(co_cond_free(NULL) != 0);
    IS(co_cond_timedwait(NULL, 1) != 0);
    IS(co_accept(-1, NULL, NULL) == -1);
    co_set_env_list(NULL, 3);
    co_log_err(NULL);
    // As `poll` has it: nothing to wait for, or an address that is none.
    IS(co_poll(NULL, NULL, 0, 1) == 0);
    IS(co_poll(NULL, NULL, 1, 1) == -1);
    IS(co_poll(NULL, NULL, ULONG_MAX, 1) == -1);
    if (inside) {
        IS(co_setspecific(100000, &failures) != 0);
        IS(co_getspecific(100000) == NULL);
        SAYS(co_eventloop(NULL, NULL, NULL), "can't run");
    } else {
        SAYS(co_yield_ct(), "outside");
        IS(co_self() == NULL && !co_is_enable_sys_hook());
    }
}

static void ranges() {
    IS(co_alloc_sharestack(0, 4096) == NULL);
    IS(co_alloc_sharestack(-1, 4096) == NULL);
    IS(co_alloc_sharestack(1, 0) == NULL);
    IS(co_alloc_sharestack(INT_MAX, 4096) == NULL);
    IS(co_alloc_sharestack(1, INT_MAX) == NULL);
    stCoRoutineAttr_t attr;
    for (int bytes : {INT_MIN, -1, 0, 1, INT_MAX}) {
        stCoRoutine_t *co = NULL;
        attr.stack_size = bytes;
        IS(co_create(&co, &attr, nothing, NULL) == 0);
        co_resume(co);
        co_release(co);
    }
}

static void released() {
    stCoRoutine_t *co = NULL;
    IS(co_create(&co, NULL, yields, NULL) == 0);
    co_resume(co);
    co_release(co);
    SAYS(co_release(co), "no such coroutine");
    SAYS(co_resume(co), "no such coroutine");
    SAYS(co_reset(co), "no such coroutine");
    // Without a function nothing runs.
    IS(co_create(&co, NULL, NULL, NULL) == 0);
    co_resume(co);
    SAYS(co_resume(co), "has ended");
    co_release(co);
    stCoCond_t *cond = co_cond_alloc();
    IS(co_cond_free(cond) == 0);
    IS(co_cond_free(cond) != 0);
    IS(co_cond_signal(cond) != 0);
    IS(co_cond_timedwait(cond, 1) != 0);
}

static void everything(bool inside) {
    forgeries();
    nulls(inside);
    ranges();
    released();
}

static stCoRoutine_t *running;
static bool ended;
static int until_ended(void *) { return ended ? -1 : 0; }
static void *inside(void *) {
    SAYS(co_resume(running), "runs");
    SAYS(co_reset(running), "runs");
    SAYS(co_release(running), "runs");
    everything(true);
    co_enable_hook_sys();
    everything(true);
    ended = true;
    return NULL;
}

static stCoCond_t *others;
static void *elsewhere(void *) {
    SAYS(co_resume(running), "another thread's");
    SAYS(co_yield(running), "another thread's");
    SAYS(co_reset(running), "another thread's");
    SAYS(co_release(running), "another thread's");
    IS(co_cond_signal(others) != 0);
    IS(co_cond_free(others) != 0);
    everything(false);
    return NULL;
}

int main() {
    everything(false);
    stCoRoutineAttr_t attr;
    for (int shared = 0; shared < 2; shared++) {
        if (shared) attr.share_stack = co_alloc_sharestack(2, 128 * 1024);
        IS(co_create(&running, &attr, inside, NULL) == 0);
        others = co_cond_alloc();
        pthread_t thread;
        pthread_create(&thread, NULL, elsewhere, NULL);
        pthread_join(thread, NULL);
        ended = false;
        co_resume(running);
        co_eventloop(co_get_epoll_ct(), until_ended, NULL);
        SAYS(co_resume(running), "has ended");
        co_release(running);
        IS(co_cond_free(others) == 0);
    }
    std::printf("%d failures\n", failures);
    return failures != 0;
}
