// libco (github.com/Tencent/libco), as a program that `peers` starts: on stacks
// of their own, which are its default of 128 KiB, and on a shared one.
//
// libco has no queue of those that can run, and no join: a coroutine yields to
// whoever has resumed it. So `yield` and `spawn` are resumed in turns from
// outside, as with the floor (benches/peers/src/raw.rs). It has no channels:
// there are no messages. `LIBCO` tells scripts/peers.sh where the program is; without
// `_FORTIFY_SOURCE`, whose calls would pass by libco's hooks.

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/time.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "co_routine.h"
#include "subject.hpp"

// In libco's co_hook_sys_call.cpp, and in none of its headers.
int co_accept(int fd, sockaddr *address, socklen_t *length);

using namespace subject;

namespace {

// Where the coroutines' stacks are.
enum class Stacks { Own, Shared };

stCoRoutineAttr_t attributes(Stacks stacks) {
    stCoRoutineAttr_t attributes;
    if (stacks == Stacks::Shared) {
        static stShareStack_t *const shared = co_alloc_sharestack(1, 128 * 1024);
        attributes.share_stack = shared;
    }
    return attributes;
}

// A coroutine that runs `Body(*this)`. It stays where it is made.
template <class Body> struct Task {
    Body body;
    stCoRoutine_t *coroutine = nullptr;
    bool ended = false;

    Task(const stCoRoutineAttr_t &attributes, Body body) : body(std::move(body)) {
        check(co_create(&coroutine, &attributes, enter, this) == 0, "no coroutine");
    }
    Task(const Task &) = delete;
    Task &operator=(const Task &) = delete;
    ~Task() {
        done(ended);
        co_release(coroutine);
    }

    void resume() { co_resume(coroutine); }

    static void *enter(void *self) {
        Task &task = *static_cast<Task *>(self);
        task.body();
        task.ended = true;
        return nullptr;
    }
};

template <class Body> std::unique_ptr<Task<Body>> spawn(const stCoRoutineAttr_t &attributes, Body body) {
    return std::make_unique<Task<Body>>(attributes, std::move(body));
}

// As many of them as `make` makes.
template <class Make> using Tasks = std::vector<decltype(std::declval<Make>()(0))>;

// libco's loop, until `over` of them are.
void run_until(const int64_t &ended, int64_t over) {
    struct Wait {
        const int64_t &ended;
        int64_t over;
    } wait{ended, over};
    const auto stop = [](void *argument) {
        const Wait &wait = *static_cast<Wait *>(argument);
        return wait.ended == wait.over ? -1 : 0;
    };
    co_eventloop(co_get_epoll_ct(), stop, &wait);
}

// They count on their stacks, so that a stack that is not put back shows.
int64_t yields(Stacks stacks, int64_t tasks, int64_t rounds) {
    int64_t counted = 0;
    const stCoRoutineAttr_t how = attributes(stacks);
    const auto make = [&](int64_t) {
        return spawn(how, [&counted, rounds] {
            int64_t count = 0;
            do {
                co_yield_ct();
                count++;
            } while (count < rounds);
            counted += count;
        });
    };
    Tasks<decltype(make)> all;
    all.reserve(tasks);
    for (int64_t i = 0; i < tasks; i++) {
        all.push_back(make(i));
        all.back()->resume(); // to its first yield
    }
    const int64_t start = now();
    for (int64_t round = 0; round < rounds; round++)
        for (const auto &task : all)
            task->resume();
    const int64_t took = now() - start;
    done(counted == tasks * rounds);
    return took;
}

int64_t spawn_join(Stacks stacks, int64_t n) {
    const stCoRoutineAttr_t how = attributes(stacks);
    int64_t sum = 0;
    const auto one = [&](int64_t i) { Task(how, [&sum, i] { sum += i; }).resume(); };
    one(0);
    const int64_t start = now();
    for (int64_t i = 0; i < n; i++)
        one(i);
    const int64_t took = now() - start;
    done(sum == n * (n - 1) / 2);
    return took;
}

int64_t spawn_batch(Stacks stacks, int64_t size, int64_t batches) {
    const stCoRoutineAttr_t how = attributes(stacks);
    int64_t sum = 0;
    const auto make = [&](int64_t i) { return spawn(how, [&sum, i] { sum += i; }); };
    Tasks<decltype(make)> all;
    all.reserve(size);
    const auto batch = [&] {
        for (int64_t i = 0; i < size; i++)
            all.push_back(make(i));
        for (const auto &task : all)
            task->resume();
        all.clear();
    };
    batch();
    sum = 0;
    const int64_t start = now();
    for (int64_t i = 0; i < batches; i++)
        batch();
    const int64_t took = now() - start;
    done(sum == batches * (size * (size - 1) / 2));
    return took;
}

// A wake-up that is not lost where nobody waits yet.
class Wakeup {
  public:
    ~Wakeup() { co_cond_free(condition); }

    void send() {
        sent = true;
        co_cond_signal(condition);
    }

    // Negative: without a timer.
    void wait(int milliseconds) {
        if (!sent)
            co_cond_timedwait(condition, milliseconds);
        done(sent);
        sent = false;
    }

  private:
    stCoCond_t *condition = co_cond_alloc();
    bool sent = false;
};

int64_t there_and_back(Stacks stacks, int64_t n, int milliseconds) {
    const stCoRoutineAttr_t how = attributes(stacks);
    Wakeup ping, pong;
    int64_t counted = 0, ended = 0;
    const auto one = spawn(how, [&] {
        for (int64_t i = 0; i < n; i++) {
            pong.send();
            ping.wait(milliseconds);
            counted++;
        }
        ended++;
    });
    const auto other = spawn(how, [&] {
        for (int64_t i = 0; i < n; i++) {
            pong.wait(milliseconds);
            counted++;
            ping.send();
        }
        ended++;
    });
    const int64_t start = now();
    other->resume();
    one->resume();
    run_until(ended, 2);
    const int64_t took = now() - start;
    done(counted == 2 * n);
    return took;
}

int64_t sleepers(Stacks stacks, int64_t n) {
    const stCoRoutineAttr_t how = attributes(stacks);
    const auto once = [&] {
        const int64_t begin = wall();
        int64_t awake = 0, ended = 0;
        const auto make = [&](int64_t i) {
            return spawn(how, [&awake, &ended, begin, i] {
                co_enable_hook_sys();
                const int64_t at = deadline(begin, i);
                // libco counts in whole milliseconds, from the last one.
                const int64_t left = std::max<int64_t>(at - wall(), 0);
                poll(nullptr, 0, int(left / 1000000) + 2);
                awake += wall() >= at;
                ended++;
            });
        };
        Tasks<decltype(make)> all;
        all.reserve(n);
        for (int64_t i = 0; i < n; i++) {
            all.push_back(make(i));
            all.back()->resume();
        }
        run_until(ended, n);
        done(awake == n);
    };
    for (int i = 0; i < WARM_UPS; i++)
        once();
    const int64_t start = now();
    once();
    return now() - start;
}

int64_t parked(Stacks stacks, int64_t n) {
    const stCoRoutineAttr_t how = attributes(stacks);
    int64_t started = 0;
    const auto make = [&](int64_t) {
        return spawn(how, [&started] {
            started++;
            co_yield_ct();
        });
    };
    Tasks<decltype(make)> all;
    all.reserve(n);
    const int64_t before = memory();
    for (int64_t i = 0; i < n; i++) {
        all.push_back(make(i));
        all.back()->resume();
    }
    const int64_t bytes = memory() - before;
    done(started == n);
    for (const auto &task : all)
        task->resume();
    return bytes;
}

// Plain blocking code, which libco's hooks make wait: that is what it is for.
void echo(int fd, char *buffer) {
    const int on = 1;
    check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0, "TCP_NODELAY");
    // Hooked: makes it non-blocking, and remembers that to us it is not.
    check(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0)) == 0, "O_NONBLOCK");
    // Instead of one second, after which a hooked read fails.
    const timeval day{24 * 3600, 0};
    for (const int which : {SO_RCVTIMEO, SO_SNDTIMEO})
        check(setsockopt(fd, SOL_SOCKET, which, &day, sizeof day) == 0, "a timeout");
    ssize_t count;
    while ((count = read(fd, buffer, BUFFER)) > 0)
        if (write(fd, buffer, size_t(count)) != count)
            return;
}

// The coroutine of one connection, then of another: none ever ends, because
// it could not free its own stack.
struct Connection {
    int fd = -1;
    stCoRoutine_t *coroutine = nullptr;
};

std::vector<Connection *> idle;
int listener = -1;

template <Stacks stacks> void *converse(void *argument) {
    Connection &connection = *static_cast<Connection *>(argument);
    co_enable_hook_sys();
    for (;;) {
        if (stacks == Stacks::Shared) {
            // Not among what is copied.
            const std::unique_ptr<char[]> buffer(new char[BUFFER]);
            echo(connection.fd, buffer.get());
        } else {
            char buffer[BUFFER];
            echo(connection.fd, buffer);
        }
        close(connection.fd);
        connection.fd = -1;
        idle.push_back(&connection);
        co_yield_ct();
    }
}

template <Stacks stacks> void *accept_all(void *) {
    co_enable_hook_sys();
    const stCoRoutineAttr_t how = attributes(stacks);
    for (;;) {
        const int fd = co_accept(listener, nullptr, nullptr);
        if (fd < 0) {
            check(errno == EAGAIN || errno == EINTR || errno == ECONNABORTED, "accept");
            pollfd more{listener, POLLIN, 0};
            co_poll(co_get_epoll_ct(), &more, 1, -1);
            continue;
        }
        if (idle.empty()) {
            auto *connection = new Connection;
            co_create(&connection->coroutine, &how, converse<stacks>, connection);
            idle.push_back(connection);
        }
        Connection *connection = idle.back();
        idle.pop_back();
        connection->fd = fd;
        co_resume(connection->coroutine);
    }
}

template <Stacks stacks> void serve() {
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(listener >= 0, "socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    check(bind(listener, reinterpret_cast<sockaddr *>(&address), length) == 0, "bind");
    check(listen(listener, SOMAXCONN) == 0, "listen");
    check(getsockname(listener, reinterpret_cast<sockaddr *>(&address), &length) == 0, "getsockname");
    announce(ntohs(address.sin_port));
    stCoRoutine_t *accepting = nullptr;
    co_create(&accepting, nullptr, accept_all<stacks>, nullptr);
    co_resume(accepting);
    co_eventloop(co_get_epoll_ct(), nullptr, nullptr);
}

template <Stacks stacks> Runtime runtime(const char *name) {
    return {
        name,
        {
            {"yield", [](int64_t tasks, int64_t n) { return yields(stacks, tasks, n / tasks); }},
            {"spawn-join", [](int64_t, int64_t n) { return spawn_join(stacks, n); }},
            {"spawn-batch", [](int64_t size, int64_t n) { return spawn_batch(stacks, size, n / size); }},
            {"wake", [](int64_t, int64_t n) { return there_and_back(stacks, n, -1); }},
            {"timer-cancel", [](int64_t, int64_t n) { return there_and_back(stacks, n, NEVER); }},
            {"sleep", [](int64_t n, int64_t) { return sleepers(stacks, n); }},
            {"parked", [](int64_t n, int64_t) { return parked(stacks, n); }},
        },
        serve<stacks>,
    };
}

} // namespace

int main(int argc, char **argv) {
    return subject::main(argc, argv, {runtime<Stacks::Own>("libco"), runtime<Stacks::Shared>("libco-shared")});
}
