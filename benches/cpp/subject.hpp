// What the contenders in C++ share: the command line that is described in
// benches/peers/src/subject.rs, the clock, the memory, the listener.
// What they do with it is in libco.cpp and photon.cpp.
#pragma once

#include <arpa/inet.h>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

namespace subject {

// Bytes that a server reads at once, as in benches/peers/src/serve/mod.rs.
constexpr size_t BUFFER = 1280;
// So far away that no timer of it ever fires: an hour, in milliseconds.
constexpr int NEVER = 3600 * 1000;

[[noreturn]] inline void fail(const std::string &why) {
    fprintf(stderr, "error: %s\n", why.c_str());
    // Not exit(): other coroutines still use what destructors would destroy.
    _exit(2);
}

inline void check(bool right, const char *what) {
    if (!right)
        fail(std::string(what) + " (errno: " + strerror(errno) + ")");
}

// The same for what a workload should have come to, where errno means nothing.
inline void done(bool right) {
    if (!right)
        fail("the work was not done");
}

inline int64_t read_clock(clockid_t id) {
    timespec time{};
    check(clock_gettime(id, &time) == 0, "no clock");
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// Processor time so far, of all threads, in nanoseconds.
inline int64_t now() { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }

// Nanoseconds since some moment, on the wall.
inline int64_t wall() { return read_clock(CLOCK_MONOTONIC); }

// Bursts before the one that is measured; the same.
constexpr int WARM_UPS = 5;

// The deadline of the i-th of many sleepers, as in benches/peers/src/lib.rs.
inline int64_t deadline(int64_t begin, int64_t i) {
    return begin + (10 + i * 7 % 20) * 1000000;
}

// Resident bytes and those of the page tables.
inline int64_t memory() {
    FILE *status = fopen("/proc/self/status", "r");
    check(status != nullptr, "no /proc/self/status");
    char line[256];
    int found = 0;
    long long kilobytes = 0, one = 0;
    while (fgets(line, sizeof line, status) != nullptr)
        if (sscanf(line, "VmRSS: %lld kB", &one) == 1 || sscanf(line, "VmPTE: %lld kB", &one) == 1) {
            kilobytes += one;
            found++;
        }
    fclose(status);
    check(found == 2, "no VmRSS or VmPTE in /proc/self/status");
    return kilobytes * 1024;
}

// Says that this process listens at `port` of 127.0.0.1.
inline void announce(uint16_t port) {
    printf("%d 127.0.0.1:%d\n", int(getpid()), int(port));
    check(fflush(stdout) == 0, "nobody reads the address");
}

// What a server wants of its process: as many files as it may have, and an
// error rather than a signal where the other side has gone.
inline void prepare_to_serve() {
    rlimit files{};
    check(getrlimit(RLIMIT_NOFILE, &files) == 0, "getrlimit");
    files.rlim_cur = files.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit");
    signal(SIGPIPE, SIG_IGN);
}

// What is measured of a runtime: tasks and operations go in; nanoseconds of
// all operations come out, or bytes of all tasks.
using Workload = std::function<int64_t(int64_t, int64_t)>;

struct Runtime {
    const char *name;
    struct Named {
        const char *name;
        Workload workload;
    };
    std::vector<Named> work;
    std::function<void()> serve;
};

inline int64_t number(const char *text) {
    char *end = nullptr;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || value < 1)
        fail(std::string(text) + " is not a number of at least 1");
    return value;
}

inline int main(int argc, char **argv, const std::vector<Runtime> &runtimes) {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    const bool work = arguments.size() == 5 && arguments[0] == "work";
    if (!work && !(arguments.size() == 2 && arguments[0] == "serve"))
        fail("usage: work RUNTIME WORK COUNT OPERATIONS | serve RUNTIME");
    for (const Runtime &runtime : runtimes) {
        if (arguments[1] != runtime.name)
            continue;
        if (!work) {
            prepare_to_serve();
            runtime.serve();
            return 0;
        }
        for (const auto &named : runtime.work) {
            if (arguments[2] != named.name)
                continue;
            const int64_t count = number(argv[4]), operations = number(argv[5]);
            const int64_t figure = named.workload(count, operations);
            const int64_t parts = arguments[2] == "parked" ? count : operations;
            printf("%.17g\n", double(figure) / double(parts));
            fflush(stdout);
            // As in fail().
            _exit(0);
        }
        fail(arguments[1] + " has no " + arguments[2]);
    }
    fail("no runtime here is called " + arguments[1]);
}

} // namespace subject
