// fork, exec, posix_spawn, popen and system from threads; the children start threads, too.
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char *self;

static void *doubled(void *arg) { return (void *)((long)arg * 2); }

static long in_thread(long number) {
    pthread_t thread;
    void *value;
    if (pthread_create(&thread, NULL, doubled, (void *)number)) return -1;
    pthread_join(thread, &value);
    return (long)value;
}

static int wait_for(pid_t child) {
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void *children(void *arg) {
    long number = (long)arg;
    pid_t child = fork();
    if (child == 0) _exit(in_thread(number));
    int forked = wait_for(child);
    char text[20];
    snprintf(text, sizeof text, "%ld", number);
    char *args[] = {self, text, NULL};
    posix_spawn(&child, self, NULL, NULL, args, environ);
    int spawned = wait_for(child);
    child = vfork();
    if (child == 0) {
        execv(self, args);
        _exit(99);
    }
    int executed = wait_for(child);
    FILE *pipe = popen("echo from a shell", "r");
    char line[50] = "";
    if (!fgets(line, sizeof line, pipe)) line[0] = 0;
    int closed = pclose(pipe);
    int system_said = WEXITSTATUS(system("exit 3"));
    char *said;
    if (asprintf(&said, "%d %d %d %d %d %s", forked, spawned, executed, closed, system_said, line) < 0)
        abort();
    return said;
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc > 1) return in_thread(atol(argv[1])) + 1;
    pthread_t threads[8];
    for (long i = 0; i < 8; i++) pthread_create(&threads[i], NULL, children, (void *)(i + 10));
    for (int i = 0; i < 8; i++) {
        void *said;
        pthread_join(threads[i], &said);
        printf("%s", (char *)said);
    }
    fflush(stdout);
    char *args[] = {self, "20", NULL};
    execv(self, args);
    return 98;
}
