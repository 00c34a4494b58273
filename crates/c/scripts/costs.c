/* What coroutines cost by crore.h: as examples/costs.rs, operation by operation. Prints a
 * name and a number a line: ns of processor time, bytes. */
#include <crore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { RUNNABLE = 1000, YIELDS = 1000, SPAWNS = 300000, PARKED = 50000 };

static void check(int code) {
    if (code != CRORE_OK) {
        fprintf(stderr, "%s: %s\n", crore_strerror(code), crore_last_error());
        exit(1);
    }
}

static double cpu(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double resident(void) {
    long all = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld %ld", &all, &pages) != 2) exit(1);
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void *yields(void *arg) {
    for (int i = 0; i < YIELDS; i++) check(crore_yield());
    return arg;
}

static void *nothing(void *arg) { return arg; }

static void *parks(void *arg) {
    check(crore_park());
    return arg;
}

static void *first(void *arg) {
    static crore_task tasks[PARKED];
    for (int i = 0; i < RUNNABLE; i++) check(crore_spawn(yields, NULL, &tasks[i]));
    double begun = cpu();
    for (int i = 0; i < RUNNABLE; i++) check(crore_join(tasks[i], NULL));
    printf("switch %.3f\n", (cpu() - begun) / RUNNABLE / YIELDS);

    begun = cpu();
    for (int i = 0; i < SPAWNS; i++) {
        check(crore_spawn(nothing, NULL, &tasks[0]));
        check(crore_join(tasks[0], NULL));
    }
    printf("spawn %.3f\n", (cpu() - begun) / SPAWNS);

    double before = resident();
    for (int i = 0; i < PARKED; i++) check(crore_spawn(parks, NULL, &tasks[i]));
    check(crore_yield());
    printf("memory %.0f\n", (resident() - before) / PARKED);
    for (int i = 0; i < PARKED; i++) {
        uint64_t id;
        check(crore_task_id(tasks[i], &id));
        check(crore_unpark(id));
        check(crore_join(tasks[i], NULL));
    }
    return arg;
}

int main(void) {
    check(crore_run(first, NULL, NULL));
    return 0;
}
