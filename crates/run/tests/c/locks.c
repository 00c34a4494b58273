// Every kind of lock of pthreads between threads: what they count must be right.
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 64, ROUNDS = 200 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_barrier_t barrier;
static pthread_spinlock_t spin;
static sem_t semaphore;
static pthread_key_t key;
static long counted, nested, written, spun, passed, begun, ended, serial;
static int turn;
static __thread long mine;
static __thread char text[100];

static void begin(void) { begun++; }

static void end_of_key(void *value) {
    pthread_mutex_lock(&mutex);
    ended += (long)value;
    pthread_mutex_unlock(&mutex);
}

static void *run(void *arg) {
    long number = (long)arg;
    pthread_once(&once, begin);
    pthread_setspecific(key, (void *)(number + 1));
    snprintf(text, sizeof text, "thread %ld", number);
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        long before = counted;
        if (i % 50 == 0) sched_yield();
        counted = before + 1;
        pthread_mutex_unlock(&mutex);
        pthread_mutex_lock(&recursive);
        pthread_mutex_lock(&recursive);
        nested++;
        pthread_mutex_unlock(&recursive);
        pthread_mutex_unlock(&recursive);
        if (i % 4 == 0) {
            pthread_rwlock_wrlock(&rwlock);
            written++;
        } else {
            pthread_rwlock_rdlock(&rwlock);
            if (written < 0) abort();
        }
        pthread_rwlock_unlock(&rwlock);
        pthread_spin_lock(&spin);
        spun++;
        pthread_spin_unlock(&spin);
        sem_wait(&semaphore);
        __atomic_add_fetch(&passed, 1, __ATOMIC_RELAXED);
        sem_post(&semaphore);
        mine++;
    }
    pthread_mutex_lock(&mutex);
    while (turn != number) pthread_cond_wait(&turned, &mutex);
    turn++;
    pthread_cond_broadcast(&turned);
    pthread_mutex_unlock(&mutex);
    char expected[100];
    snprintf(expected, sizeof expected, "thread %ld", number);
    return (void *)(mine == ROUNDS && strcmp(text, expected) == 0 ? number : -1);
}

int main(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    pthread_spin_init(&spin, 0);
    sem_init(&semaphore, 0, 3);
    pthread_key_create(&key, end_of_key);
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, run, (void *)i)) return 1;
    long sum = 0;
    for (int i = 0; i < THREADS; i++) {
        void *value;
        if (pthread_join(threads[i], &value)) return 2;
        sum += (long)value;
    }
    printf("%ld %ld %ld %ld %ld %ld %ld %ld %ld %ld\n", counted, nested, written, spun, passed,
           begun, ended, serial, sum, mine);
    return 0;
}
