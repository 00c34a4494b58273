/* A thousand coroutines sleep in libc's nanosleep at the same time. */
#include <crore.h>
#include <stdio.h>
#include <time.h>

static void *sleeper(void *arg) {
    struct timespec time = {0, 50 * 1000 * 1000};
    nanosleep(&time, NULL);
    return arg;
}

static void *first(void *arg) {
    static crore_task tasks[1000];
    for (int i = 0; i < 1000; i++) {
        if (crore_spawn(sleeper, NULL, &tasks[i]) != CRORE_OK) {
            fprintf(stderr, "%s\n", crore_last_error());
            return arg;
        }
    }
    int slept = 0;
    for (int i = 0; i < 1000; i++) slept += crore_join(tasks[i], NULL) == CRORE_OK;
    printf("%d slept\n", slept);
    return arg;
}

int main(void) {
    return crore_run(first, NULL, NULL);
}
