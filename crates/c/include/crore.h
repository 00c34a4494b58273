/* crore for C: coroutines that block like threads.
 *
 *   static void *hello(void *name) { crore_sleep(1000000); puts(name); return NULL; }
 *
 *   static void *first(void *arg) {
 *       crore_task a, b;
 *       crore_spawn(hello, "one", &a);
 *       crore_spawn(hello, "two", &b);
 *       crore_join(a, NULL);
 *       crore_join(b, NULL);
 *       return arg;
 *   }
 *
 *   int main(void) { return crore_run(first, NULL, NULL); }
 *
 * In a coroutine the blocking functions of libc (read, accept, poll, sleep, getaddrinfo,
 * pthread_mutex_lock ...) park it, and its thread runs others. Outside of coroutines they
 * are libc's.
 *
 * Errors. A function that returns int returns CRORE_OK (0) or one of enum crore_code;
 * crore_last_error says more. All may return CRORE_NULL (a pointer that is needed is
 * null), CRORE_INVALID (a handle that is 0, was released, or was never made) and
 * CRORE_PANIC (a bug, with its text). Places for results may be null where it says so.
 *
 * Handles are structs with a number. They are looked up, so a released one is an error
 * and never a crash, also if it is used by another thread at that moment. A struct that
 * is all zero is no handle.
 *
 * Threads. Unless it says otherwise a function may be called by any thread, in coroutines
 * or outside; one that waits parks the coroutine, or blocks the thread.
 *
 * Times are in nanoseconds.
 *
 * To end. A coroutine that was cancelled, or whose crore_timeout is over, is not
 * interrupted: functions that wait return CRORE_CANCELLED or CRORE_TIMEOUT, and the
 * blocking ones of libc -1 with errno ECANCELED or ETIMEDOUT. Nothing unwinds C. Code
 * that goes on after ten thousand such errors is abandoned: it is never resumed.
 *
 * Exceptions. What a function leaves by that crore has called (C++'s exceptions,
 * pthread_exit) ends the process with a message. crore.hpp hands exceptions on.
 */
#ifndef CRORE_H
#define CRORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why a call failed. */
enum crore_code {
    CRORE_OK = 0,
    CRORE_NULL = 1,        /* a pointer that is needed is null */
    CRORE_INVALID = 2,     /* no such handle, or a value out of range */
    CRORE_OUTSIDE = 3,     /* called outside of a coroutine, or of a runtime */
    CRORE_STATE = 4,       /* the object is in another state than the call needs */
    CRORE_TIMEOUT = 5,     /* a time is over: the call's own, or a crore_timeout's */
    CRORE_CANCELLED = 6,   /* the coroutine is cancelled */
    CRORE_CLOSED = 7,      /* the channel is closed */
    CRORE_WOULD_BLOCK = 8, /* the call would have to wait */
    CRORE_PANIC = 9,       /* a panic */
    CRORE_SYSTEM = 10      /* a call of the system failed, or there is no more room */
};

/* What a coroutine runs: its argument, and what crore_join gets. */
typedef void *(*crore_entry)(void *arg);

/* Handles. */
typedef struct { uint64_t id; } crore_task;
typedef struct { uint64_t id; } crore_runtime;
typedef struct { uint64_t id; } crore_mutex;
typedef struct { uint64_t id; } crore_cond;
typedef struct { uint64_t id; } crore_channel;

/* A code in words: a string that lives for ever. */
const char *crore_strerror(int code);

/* What the last call said that failed on this thread; "" if none has. Valid until the
 * next call of crore on the thread fails; coroutines share it, so read it at once. */
const char *crore_last_error(void);

/* The version, as "0.1.0". */
const char *crore_version(void);

/* 1 if libc's blocking functions park coroutines in this program, 0 if not: calls are
 * bound to libc before crore (link crore before libc, or load it first). */
int crore_hooks_active(void);

/* --- runtimes --- */

/* Settings of a runtime. A field that is 0 is as if not set. */
typedef struct {
    size_t size;                  /* sizeof(crore_config) */
    uint32_t workers;             /* threads; 1. 1023 at a time in a process */
    uint32_t max_coroutines;      /* at a time on each; 16 million */
    uint32_t shared_stacks;       /* on each worker; 8. Made when the first is needed */
    int pin_workers;              /* bind each to a processor */
    size_t shared_stack_size;     /* bytes; 1 MiB, at most 1 GiB */
    int own_thread_locals;        /* coroutines have thread-locals of their own */
    int threads_as_coroutines;    /* pthread_create in a coroutine starts one */
    uint64_t drain_nanoseconds;   /* after the first coroutine's end the others get so
                                     long before they are cancelled; 0: no time */
    uint64_t watchdog_nanoseconds; /* report who holds a worker for longer */
} crore_config;

#define CRORE_CONFIG_INIT { sizeof(crore_config), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Runs entry(arg) as the first coroutine, the calling thread as the worker that runs it
 * and what it spawns. Returns when all have ended; those that live when the first ends
 * are cancelled. result may be null.
 * CRORE_STATE: the thread runs a runtime. CRORE_CANCELLED: the first coroutine was
 * cancelled (crore_shutdown). CRORE_SYSTEM: no memory, descriptors or threads. */
int crore_run(crore_entry entry, void *arg, void **result);

/* The same with settings; config may be null. CRORE_INVALID: its size is not set. */
int crore_run_with(const crore_config *config, crore_entry entry, void *arg, void **result);

/* A handle of the runtime whose worker this thread is, for other threads. To be
 * released. CRORE_OUTSIDE: it is none. */
int crore_runtime_current(crore_runtime *runtime);

/* Gives a handle back; the runtime goes on. Handles may outlive their runtimes. */
int crore_runtime_release(crore_runtime runtime);

/* Ends all coroutines but the caller: gives them grace_nanoseconds to end, cancels them,
 * waits as long again. Returns when they have ended. From a coroutine or another thread.
 * CRORE_TIMEOUT: some go on; crore_last_error says which. */
int crore_shutdown(crore_runtime runtime, uint64_t grace_nanoseconds);

/* What a runtime has counted. */
typedef struct {
    size_t size;              /* sizeof(crore_metrics), set by the caller */
    uint64_t spawned;         /* coroutines */
    uint64_t ended;           /* those that have ended, in whatever way */
    uint64_t abandoned;       /* those among them that ignored their cancellation */
    uint64_t resumed;         /* times that one was resumed */
    uint64_t turns;           /* times that a worker asked the kernel for events */
    uint64_t frame_saves;     /* times that frames on a shared stack were copied out */
    uint64_t frame_restores;  /* and back */
    uint64_t saved_bytes;     /* bytes kept of frames that are out now */
    uint64_t stacks_in_use;
    uint64_t stacks_warm;     /* unused stacks that keep their memory */
    uint64_t stacks_cold;     /* and whose memory went back to the kernel */
    uint64_t stacks_lost;     /* of abandoned coroutines */
} crore_metrics;

/* Fills *metrics; of a runtime that has ended, too. CRORE_INVALID: its size is not set. */
int crore_runtime_metrics(crore_runtime runtime, crore_metrics *metrics);

/* Lists the coroutines, a line each: name, id, state, what it waits for, since when.
 * Writes at most length bytes to buffer, a zero at the end; *needed (may be null) is how
 * many all would take. With length 0 buffer may be null. */
int crore_dump(crore_runtime runtime, char *buffer, size_t length, size_t *needed);

/* --- coroutines --- */

/* How one is spawned. A field that is 0 is as if not set. */
typedef struct {
    size_t size;            /* sizeof(crore_options) */
    const char *name;       /* copied; shown by crore_dump and reports */
    size_t stack_size;      /* bytes; 64 KiB. Only what is touched becomes memory */
    uint32_t worker;        /* n: the n-th, from 1; 0: any */
    int daemon;             /* nobody waits for its end when a runtime drains */
    int own_thread_locals;  /* its own, not its thread's */
    int unhooked;           /* libc's blocking functions block its thread */
    int shared;             /* on a shared stack: while it is parked nobody may use
                               addresses in its frames */
} crore_options;

#define CRORE_OPTIONS_INIT { sizeof(crore_options), 0, 0, 0, 0, 0, 0, 0 }

/* Spawns entry(arg). task may be null: then it is detached; else the handle is released
 * by crore_join or crore_detach. It runs on the runtime of the calling thread; when the
 * caller waits next, or on another worker at once.
 * CRORE_OUTSIDE: the thread has none. CRORE_SYSTEM: too many coroutines. */
int crore_spawn(crore_entry entry, void *arg, crore_task *task);

/* The same with options, which may be null. CRORE_INVALID: no such worker; a stack over
 * 1 GiB. */
int crore_spawn_with(const crore_options *options, crore_entry entry, void *arg, crore_task *task);

/* The same on another runtime, from any thread; not on shared stacks. CRORE_SYSTEM: it
 * has ended. */
int crore_spawn_on(crore_runtime runtime, const crore_options *options, crore_entry entry, void *arg, crore_task *task);

/* Waits for the end, releases the handle; result may be null, and is written on success.
 * CRORE_CANCELLED: it, or the caller, was cancelled. CRORE_TIMEOUT: a crore_timeout of
 * the caller's is over. CRORE_SYSTEM: it got no stack. CRORE_STATE: it is the caller, or
 * another call joins it: only then is the handle not released. A join that is cut short
 * detaches the coroutine. */
int crore_join(crore_task task, void **result);

/* The same for at most so long: CRORE_TIMEOUT by this limit leaves the handle as it is. */
int crore_join_timeout(crore_task task, uint64_t nanoseconds, void **result);

/* Releases the handle; the coroutine goes on. */
int crore_detach(crore_task task);

/* Whether it has ended: *finished is 1 or 0. */
int crore_is_finished(crore_task task, int *finished);

/* The id of a coroutine, a number for crore_cancel and crore_unpark. It needs no
 * release, and is of nothing once the coroutine has ended. */
int crore_task_id(crore_task task, uint64_t *id);

/* The id of the coroutine that calls this. CRORE_OUTSIDE: none does. */
int crore_self(uint64_t *id);

/* Cancels it: its waits fail from now on. Nothing happens if it has ended, or if the
 * number is of none. */
int crore_cancel(uint64_t id);

/* Whether the calling coroutine is cancelled, or late: *cancelled is 1 or 0. For code
 * that never waits. */
int crore_is_cancelled(int *cancelled);

/* Lets the others run that can. On a plain thread it is sched_yield. */
int crore_yield(void);

/* Sleeps at least so long. */
int crore_sleep(uint64_t nanoseconds);

/* Waits until crore_unpark was called for this coroutine since it parked last; calls
 * before count, several as one. CRORE_OUTSIDE: no coroutine calls this. */
int crore_park(void);

/* The same for at most so long; CRORE_OK in both cases. */
int crore_park_timeout(uint64_t nanoseconds);

/* Ends the present or next crore_park of a coroutine. Nothing happens if there is none. */
int crore_unpark(uint64_t id);

/* Calls f(arg), in which waits fail once so long has passed. CRORE_TIMEOUT: one has;
 * what f returned is dropped. result may be null. CRORE_OUTSIDE: no coroutine calls. */
int crore_timeout(uint64_t nanoseconds, crore_entry f, void *arg, void **result);

/* Calls f(arg), in which libc's functions block the thread. result may be null. */
int crore_unhooked(crore_entry f, void *arg, void **result);

/* --- locals --- */

/* A key, by which each coroutine has a value of its own, null at first. When one ends,
 * destructor (may be null; what it returns is ignored) is called with each value that is
 * not null. Keys are not given back. CRORE_SYSTEM: all 1024 are taken. */
int crore_key_create(uint32_t *key, crore_entry destructor);

/* Sets the calling coroutine's value. CRORE_OUTSIDE: none calls. CRORE_INVALID: no such
 * key. CRORE_STATE: the coroutine ends, and its values have ended. */
int crore_local_set(uint32_t key, void *value);

/* Gets it; the same errors. */
int crore_local_get(uint32_t key, void **value);

/* --- mutexes, condition variables --- */

/* pthread's work, too. These have limits, can be cancelled, and may be unlocked by
 * another coroutine or thread than has locked them. */

/* Makes a mutex, to be freed. */
int crore_mutex_new(crore_mutex *mutex);

/* Frees it. CRORE_STATE: it is locked. Waiting calls get it before it goes. */
int crore_mutex_free(crore_mutex mutex);

/* Locks; not twice by the same: that waits for ever. */
int crore_lock(crore_mutex mutex);

/* Locks without waiting. CRORE_WOULD_BLOCK: it is locked. */
int crore_try_lock(crore_mutex mutex);

/* Locks within a time. CRORE_TIMEOUT: it was locked for so long. */
int crore_lock_timeout(crore_mutex mutex, uint64_t nanoseconds);

/* Unlocks. CRORE_STATE: it is not locked. */
int crore_unlock(crore_mutex mutex);

/* Makes a condition variable, to be freed. */
int crore_cond_new(crore_cond *cond);

/* Frees it. Calls that wait go on waiting, for their limits or their end: signal first. */
int crore_cond_free(crore_cond cond);

/* Unlocks the mutex, waits for a signal, locks it. CRORE_STATE: it was not locked.
 * CRORE_CANCELLED: cut short, by a crore_timeout as well: the mutex is not locked. */
int crore_cond_wait(crore_cond cond, crore_mutex mutex);

/* The same for at most so long: CRORE_TIMEOUT, with the mutex locked. */
int crore_cond_wait_timeout(crore_cond cond, crore_mutex mutex, uint64_t nanoseconds);

/* Wakes one that waits, if there is one. */
int crore_cond_signal(crore_cond cond);

/* Wakes all. */
int crore_cond_broadcast(crore_cond cond);

/* --- channels of pointers --- */

/* A channel that keeps up to capacity pointers; 0: each is handed over; SIZE_MAX: no
 * limit. Any number may send and receive. */
int crore_channel_new(size_t capacity, crore_channel *channel);

/* Nothing more can be sent; what was sent, or waits to be, can be received.
 * CRORE_CLOSED: it was closed before. */
int crore_channel_close(crore_channel channel);

/* Closes it and releases the handle; what is in it is forgotten. */
int crore_channel_free(crore_channel channel);

/* Sends, waiting for room. CRORE_CLOSED: it is closed. */
int crore_send(crore_channel channel, void *value);

/* Sends without waiting. CRORE_WOULD_BLOCK: there is no room. CRORE_CLOSED: as above. */
int crore_try_send(crore_channel channel, void *value);

/* Sends within a time. CRORE_TIMEOUT: there was no room for so long. */
int crore_send_timeout(crore_channel channel, void *value, uint64_t nanoseconds);

/* Receives, waiting for something. CRORE_CLOSED: it is closed and empty. */
int crore_recv(crore_channel channel, void **value);

/* Receives without waiting. CRORE_WOULD_BLOCK: it is empty. */
int crore_try_recv(crore_channel channel, void **value);

/* Receives within a time. CRORE_TIMEOUT: it was empty for so long. */
int crore_recv_timeout(crore_channel channel, void **value, uint64_t nanoseconds);

#ifdef __cplusplus
}
#endif

#endif
