// The promise: a program that is built with sanitizers runs as others do, on stacks
// of its own and on shared ones, exceptions and all; and what is wrong is reported with the
// names of the coroutine's frames. An argument says what is to be wrong.
#include <crore.hpp>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/socket.h>
#include <unistd.h>

static int failures;
#define IS(what) \
    do { \
        if (!(what)) { \
            std::printf("%d: not %s\n", __LINE__, #what); \
            failures++; \
        } \
    } while (0)

using std::chrono::milliseconds;

// Frames with red zones, that are suspended, thrown through and left.
static int deep(int depth) {
    volatile char bytes[64];
    std::memset(const_cast<char *>(bytes), depth, sizeof bytes);
    if (depth == 0) throw std::runtime_error("the bottom");
    crore::yield();
    try {
        deep(depth - 1);
    } catch (const std::runtime_error &) {
        if (depth % 2 == 0) throw;
    }
    crore::sleep(milliseconds(depth % 3));
    for (char byte : bytes) IS(byte == depth);
    throw std::runtime_error("further up");
}

static void *throws(void *) {
    for (int i = 0; i < 3; i++) {
        try {
            deep(7);
            IS(!"reached");
        } catch (const std::runtime_error &e) {
            IS(e.what() == std::string("further up"));
        }
        crore::yield();
    }
    return nullptr;
}

static void *echoes(void *fd) {
    char bytes[4096];
    ssize_t got;
    while ((got = read(*static_cast<int *>(fd), bytes, sizeof bytes)) > 0)
        IS(write(*static_cast<int *>(fd), bytes, got) == got);
    return nullptr;
}

static void works(int shared) {
    std::vector<crore_task> all(50);
    crore_options options = CRORE_OPTIONS_INIT;
    options.shared = shared;
    int ends[2];
    IS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    IS(crore_spawn_with(&options, echoes, &ends[0], &all[0]) == CRORE_OK);
    for (size_t i = 1; i < all.size(); i++)
        IS(crore_spawn_with(&options, throws, nullptr, &all[i]) == CRORE_OK);
    for (int i = 0; i < 100; i++) {
        std::string sent(1000, static_cast<char>(i)), got(1000, '?');
        IS(write(ends[1], sent.data(), sent.size()) == 1000);
        IS(read(ends[1], &got[0], got.size()) == 1000 && got == sent);
    }
    close(ends[1]);
    for (crore_task one : all) IS(crore_join(one, nullptr) == CRORE_OK);
    close(ends[0]);
}

__attribute__((noinline)) static int endless(volatile int *above) {
    volatile int here[100];
    here[0] = *above + 1;
    if (here[0] < 0) return 0;
    return endless(here) + here[0];
}

// Where the report has to say that it was.
__attribute__((noinline)) static int wrong(const std::string &what, int eight) {
    if (what == "heap") {
        std::vector<char> bytes(8);
        return const_cast<volatile char *>(bytes.data())[eight];
    }
    if (what == "stack") {
        volatile char bytes[8] = {};
        return bytes[eight];
    }
    if (what == "freed") {
        char *volatile bytes = new char[16];
        delete[] bytes;
        return bytes[eight];
    }
    if (what == "signed") {
        volatile int most = INT_MAX;
        return most + eight;
    }
    volatile int one = 1;
    if (what == "overflow") return endless(&one);
    return *reinterpret_cast<volatile int *>(eight - 8);
}

static const char *what_is_wrong;

static void *goes_wrong(void *) {
    crore::sleep(milliseconds(1));
    return wrong(what_is_wrong, 8) ? &failures : nullptr;
}

int main(int count, char **arguments) {
    int shared = count > 2;
    if (count > 1) what_is_wrong = arguments[1];
    crore::run([shared] {
        if (what_is_wrong != nullptr) {
            crore_task task;
            crore_options options = CRORE_OPTIONS_INIT;
            options.shared = shared;
            crore_spawn_with(&options, goes_wrong, nullptr, &task);
            crore_join(task, nullptr);
            return;
        }
        works(0);
        works(1);
    });
    std::printf("%d failures\n", failures);
    return failures != 0;
}
