// libco's API over crore: same names, types and meaning. docs/LIBCO.md says what differs.
//
// Put this folder where libco's headers were (-I.../include/libco) and link -lcrore.
// Pointers to coroutines, condition variables, shared stacks and loops are handles: valid
// ones only for these functions, and only on the thread that made them. What libco leaves
// undefined (a coroutine that is released twice, resumed while it runs, or resumed after
// its end) does nothing, and says so on stderr.
#ifndef __CO_ROUTINE_H__
#define __CO_ROUTINE_H__

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/poll.h>
#include <sys/socket.h>

struct stCoRoutine_t;
struct stShareStack_t;
struct stCoEpoll_t;
struct stCoCond_t;

// How a coroutine is made: bytes of its stack (128 KiB if 0; at most 8 MiB), or the shared
// stacks that it is to run on.
struct stCoRoutineAttr_t {
    int stack_size;
    stShareStack_t *share_stack;
    stCoRoutineAttr_t() : stack_size(128 * 1024), share_stack(NULL) {}
} __attribute__((packed));

typedef int (*pfn_co_eventloop_t)(void *);
typedef void *(*pfn_co_routine_t)(void *);

extern "C" {

// Makes a coroutine of this thread; attr may be null. 0, or an error of crore.h.
int co_create(stCoRoutine_t **co, const stCoRoutineAttr_t *attr, void *(*routine)(void *), void *arg);
// Runs it until it yields, waits in a blocking call (with hooks enabled), or ends.
void co_resume(stCoRoutine_t *co);
// Back to what has resumed the calling coroutine.
void co_yield(stCoRoutine_t *co);
void co_yield_ct();
// Ends it; its frames are forgotten, no destructor runs.
void co_release(stCoRoutine_t *co);
// The same, but it can be resumed, from its beginning.
void co_reset(stCoRoutine_t *co);
// The calling coroutine; null outside.
stCoRoutine_t *co_self();

// poll, parking the coroutine whether or not it has enabled hooks.
int co_poll(stCoEpoll_t *ctx, struct pollfd fds[], nfds_t nfds, int timeout_ms);
// accept.
int co_accept(int fd, struct sockaddr *addr, socklen_t *len);
// Runs this thread's coroutines as what they wait for comes; after each turn, and at
// least each millisecond, pfn, until it returns -1. With a null pfn it never returns, and
// sleeps while nothing comes.
void co_eventloop(stCoEpoll_t *ctx, pfn_co_eventloop_t pfn, void *arg);
stCoEpoll_t *co_get_epoll_ct();

// The calling coroutine's values; outside of coroutines pthread's.
int co_setspecific(pthread_key_t key, const void *value);
void *co_getspecific(pthread_key_t key);

// Whether the calling coroutine's blocking calls park it: not before it says so.
void co_enable_hook_sys();
void co_disable_hook_sys();
bool co_is_enable_sys_hook();

// Condition variables of this thread. timedwait: 0, also when the time is over; no limit
// if it is not positive. Who is signalled runs at the loop's next turn.
stCoCond_t *co_cond_alloc();
int co_cond_free(stCoCond_t *cc);
int co_cond_signal(stCoCond_t *cc);
int co_cond_broadcast(stCoCond_t *cc);
int co_cond_timedwait(stCoCond_t *cc, int timeout_ms);

// Stacks on which coroutines take turns. While one is suspended nobody may use addresses
// in its frames: CRORE_CHECK_SHARED=1 finds who does.
stShareStack_t *co_alloc_sharestack(int iCount, int iStackSize);

// Environment variables of which each coroutine with hooks has its own.
void co_set_env_list(const char *name[], size_t cnt);

// Does nothing.
void co_log_err(const char *fmt, ...);

}

#endif
