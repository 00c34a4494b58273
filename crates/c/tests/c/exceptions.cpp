// The promise of crore.hpp: values and exceptions come through join, destructors run,
// catch blocks may wait.
#include <crore.hpp>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <mutex>
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

struct counts {
    int &at;
    explicit counts(int &at) : at(at) {}
    counts(const counts &other) : at(other.at) {}
    ~counts() { at++; }
};

static void exceptions() {
    auto fails = crore::spawn([]() -> int {
        crore::sleep(milliseconds(1));
        throw std::runtime_error("lost");
    });
    try {
        fails.join();
        IS(!"reached");
    } catch (const std::runtime_error &e) {
        IS(e.what() == std::string("lost"));
    }
    auto box = crore::spawn([] { return std::unique_ptr<int>(new int(5)); });
    IS(*box.join() == 5);
    try {
        box.join();
        IS(!"reached");
    } catch (const crore::error &e) {
        IS(e.code() == CRORE_INVALID);
    }
}

static void ends() {
    int destroyed = 0;
    auto waits = crore::spawn([&] {
        counts one(destroyed);
        crore::park();
    });
    crore::yield();
    waits.cancel();
    try {
        waits.join();
        IS(!"reached");
    } catch (const crore::cancelled &) {
    }
    IS(destroyed == 1);
    try {
        crore::timeout(milliseconds(2), [&] {
            counts one(destroyed);
            crore::sleep(std::chrono::hours(1));
        });
        IS(!"reached");
    } catch (const crore::timed_out &) {
    }
    IS(destroyed == 2);
    IS(crore::timeout(std::chrono::hours(1), [] { return 3; }) == 3);
}

// Each waits in its catch block, and they leave them in another order than they came.
static void catch_blocks() {
    std::vector<crore::task<std::string>> all;
    for (int i = 0; i < 10; i++) {
        all.push_back(crore::spawn([i] {
            try {
                throw std::runtime_error(std::to_string(i));
            } catch (const std::runtime_error &e) {
                crore::sleep(milliseconds((i * 7) % 10));
                try {
                    throw;
                } catch (const std::runtime_error &again) {
                    crore::yield();
                    return std::string(again.what()) + e.what();
                }
            }
        }));
    }
    for (int i = 0; i < 10; i++) IS(all[i].join() == std::to_string(i) + std::to_string(i));
    IS(!std::current_exception());
}

static void shares() {
    crore::mutex mutex;
    crore::channel<std::string> words(2);
    int sum = 0;
    std::vector<crore::task<void>> all;
    for (int i = 0; i < 8; i++) {
        all.push_back(crore::spawn([&, i] {
            std::lock_guard<crore::mutex> lock(mutex);
            int before = sum;
            crore::yield();
            sum = before + i;
        }));
    }
    auto sends = crore::spawn([words]() mutable {
        for (int i = 0; i < 100; i++) words.send(std::string(i, 'x'));
        words.close();
    });
    size_t letters = 0;
    while (auto word = words.recv()) letters += word->size();
    IS(letters == 4950);
    sends.join();
    for (auto &one : all) one.join();
    IS(sum == 28);
    int ends[2];
    IS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    auto reads = crore::spawn([&] {
        char byte = 0;
        return read(ends[0], &byte, 1) == 1 ? byte : '-';
    });
    crore::yield();
    IS(write(ends[1], "y", 1) == 1);
    IS(reads.join() == 'y');
    close(ends[0]);
    close(ends[1]);
}

#ifdef UNCAUGHT
static void *throws(void *) { throw std::runtime_error("nobody's"); }
#endif

int main() {
#ifdef UNCAUGHT
    return crore_run(throws, nullptr, nullptr);
#endif
    crore::run([] {
        exceptions();
        ends();
        catch_blocks();
        shares();
    });
    try {
        crore::run([] { throw 7; });
        IS(!"reached");
    } catch (int seven) {
        IS(seven == 7);
    }
    std::printf("%d failures\n", failures);
    return failures != 0;
}
