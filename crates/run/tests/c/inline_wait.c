// A thread that waits in a system call that libc does not see, for another thread.
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int word;

static long futex(int call, int value, struct timespec *limit) {
    long answer;
    register struct timespec *fourth __asm__("r10") = limit;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(SYS_futex), "D"(&word), "S"(call), "d"(value), "r"(fourth)
                     : "rcx", "r11", "memory");
    return answer;
}

static void *waits(void *unused) {
    struct timespec limit = {.tv_sec = 3};
    futex(FUTEX_WAIT, 0, &limit);
    puts(__atomic_load_n(&word, __ATOMIC_SEQ_CST) ? "woken" : "nobody came");
    return unused;
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, waits, NULL);
    usleep(200000);
    __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
    futex(FUTEX_WAKE, 1, NULL);
    pthread_join(thread, NULL);
    return 0;
}
