// Programs that close every descriptor, in all ways, go on; and so do their children.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int pair[2];

static void *answers(void *arg) {
    char c;
    while (read(pair[1], &c, 1) == 1 && write(pair[1], &c, 1) == 1) {}
    return (void *)5;
}

// Threads that wait for each other, for a time, and at a socket.
static void works(const char *when) {
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) abort();
    pthread_t thread;
    void *value;
    pthread_create(&thread, NULL, answers, NULL);
    struct timespec moment = {0, 1000000};
    int right = 0;
    for (int i = 0; i < 20; i++) {
        char c = i;
        nanosleep(&moment, NULL);
        right += write(pair[0], &c, 1) == 1 && read(pair[0], &c, 1) == 1 && c == i;
    }
    close(pair[0]);
    pthread_join(thread, &value);
    close(pair[1]);
    printf("%s: %d %ld\n", when, right, (long)value);
}

static void close_all(void) {
    for (int fd = 3; fd < 1100; fd++) close(fd);
}
static void close_known(void) {
    int fds[1000], count = 0;
    DIR *all = opendir("/proc/self/fd");
    struct dirent *one;
    while ((one = readdir(all)) && count < 1000) {
        int fd = atoi(one->d_name);
        if (fd > 2 && fd != dirfd(all)) fds[count++] = fd;
    }
    closedir(all);
    while (count) close(fds[--count]);
}

// The numbers that a program gets next.
static void numbers(void) {
    int fds[5];
    for (int i = 0; i < 5; i++) fds[i] = dup(0);
    for (int i = 0; i < 5; i++) {
        printf("%d ", fds[i]);
        close(fds[i]);
    }
    printf("\n");
}

static void all_ways(const char *who) {
    printf("%s ", who);
    numbers();
    close_all();
    works("loop");
    close_known();
    works("known");
    closefrom(3);
    works("closefrom");
    printf("%d\n", close_range(3, ~0U, 0));
    works("close_range");
    printf("%d\n", close_range(3, ~0U, CLOSE_RANGE_CLOEXEC));
    printf("%d\n", close_range(7, 3, 0) == -1 && errno == EINVAL);
    // Onto whatever is there.
    for (int fd = 3; fd < 200; fd++) if (dup2(0, fd) != fd) printf("dup2 %d\n", fd);
    works("dup2");
    for (int fd = 3; fd < 200; fd++) if (close(fd)) printf("close %d\n", fd);
    numbers();
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    works("before");
    all_ways("parent");
    pid_t child = fork();
    if (child == 0) {
        all_ways("child");
        _exit(3);
    }
    int status;
    waitpid(child, &status, 0);
    printf("child %d\n", WEXITSTATUS(status));
    works("after");
    // As daemons do.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    child = fork();
    if (child == 0) {
        if (daemon(0, 1)) _exit(1);
        all_ways("daemon");
        _exit(4);
    }
    waitpid(child, &status, 0);
    // The daemon itself.
    waitpid(-1, &status, 0);
    printf("daemon %d\n", WEXITSTATUS(status));
    works("behind the daemon");
    return 0;
}
