// Photon (github.com/alibaba/PhotonLibOS), as a program that `peers` starts: its
// threads on one vcpu, on stacks of 64 KiB from its pool, with its epoll engine.
//
// It has no channels: there are no messages. `PHOTON` tells scripts/peers.sh where
// the program is.

#include <photon/common/alog.h>
#include <photon/net/socket.h>
#include <photon/photon.h>
#include <photon/thread/thread.h>
#include <photon/thread/thread11.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "subject.hpp"

using namespace subject;

namespace {

constexpr uint64_t STACK = 64 * 1024;

void begin() {
    // It logs to where `peers` reads an answer, and takes a connection that
    // ends for an error.
    log_output = log_output_null;
    photon::PhotonOptions options;
    options.use_pooled_stack_allocator = photon::STACK_ALLOCATOR_POOLED;
    check(photon::init(photon::INIT_EVENT_EPOLL, photon::INIT_IO_NONE, options) == 0, "no Photon");
}

// One that runs `body`, and can be joined.
template <class Body> photon::join_handle *spawn(Body body) {
    photon::thread *thread = photon::thread_create11(STACK, std::move(body));
    check(thread != nullptr, "no thread");
    return photon::thread_enable_join(thread);
}

using Threads = std::vector<photon::join_handle *>;

void join(Threads &all) {
    for (photon::join_handle *thread : all)
        photon::thread_join(thread);
    all.clear();
}

// The time is taken from when the last one has begun until the last has ended.
int64_t yields(int64_t tasks, int64_t rounds) {
    int64_t begun = 0, ended = 0, begin = 0, end = 0;
    Threads all;
    for (int64_t i = 0; i < tasks; i++)
        all.push_back(spawn([&, tasks, rounds] {
            if (++begun == tasks)
                begin = now();
            while (begun < tasks)
                photon::thread_yield();
            for (int64_t round = 1; round < rounds; round++)
                photon::thread_yield();
            if (++ended == tasks)
                end = now();
        }));
    join(all);
    done(ended == tasks);
    return end - begin;
}

int64_t spawn_join(int64_t n) {
    int64_t sum = 0;
    const auto one = [&](int64_t i) { photon::thread_join(spawn([&sum, i] { sum += i; })); };
    one(0);
    const int64_t start = now();
    for (int64_t i = 0; i < n; i++)
        one(i);
    const int64_t took = now() - start;
    done(sum == n * (n - 1) / 2);
    return took;
}

int64_t spawn_batch(int64_t size, int64_t batches) {
    int64_t sum = 0;
    Threads all;
    all.reserve(size);
    const auto batch = [&] {
        for (int64_t i = 0; i < size; i++)
            all.push_back(spawn([&sum, i] { sum += i; }));
        join(all);
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

// With a timer or, with the most microseconds there are, without.
int64_t there_and_back(int64_t n, uint64_t timeout) {
    photon::semaphore ping, pong;
    int64_t counted = 0;
    const int64_t start = now();
    Threads both;
    both.push_back(spawn([&, n, timeout] {
        for (int64_t i = 0; i < n; i++) {
            pong.signal(1);
            counted += ping.wait(1, timeout) == 0;
        }
    }));
    both.push_back(spawn([&, n, timeout] {
        for (int64_t i = 0; i < n; i++) {
            counted += pong.wait(1, timeout) == 0;
            ping.signal(1);
        }
    }));
    join(both);
    const int64_t took = now() - start;
    done(counted == 2 * n);
    return took;
}

int64_t sleepers(int64_t n) {
    const auto once = [&] {
        const int64_t begin = wall();
        int64_t awake = 0;
        Threads all;
        all.reserve(n);
        for (int64_t i = 0; i < n; i++)
            all.push_back(spawn([&awake, begin, i] {
                const int64_t at = deadline(begin, i);
                // Its clock is one of microseconds that it reads now and then.
                photon::__update_now();
                photon::thread_usleep(uint64_t(std::max<int64_t>(at - wall(), 0) / 1000 + 1));
                awake += wall() >= at;
            }));
        join(all);
        done(awake == n);
    };
    for (int i = 0; i < WARM_UPS; i++)
        once();
    const int64_t start = now();
    once();
    return now() - start;
}

int64_t parked(int64_t n) {
    int64_t started = 0;
    std::vector<photon::thread *> all;
    all.reserve(n);
    const int64_t before = memory();
    for (int64_t i = 0; i < n; i++)
        all.push_back(photon::thread_create11(STACK, [&started] {
            started++;
            photon::thread_suspend();
        }));
    while (started < n)
        photon::thread_yield();
    const int64_t bytes = memory() - before;
    for (photon::thread *thread : all)
        check(photon::thread_stat(thread) == photon::SLEEPING, "one is not parked");
    return bytes;
}

void echo(photon::net::ISocketStream *raw) {
    const std::unique_ptr<photon::net::ISocketStream> stream(raw);
    char buffer[BUFFER];
    ssize_t count;
    while ((count = stream->recv(buffer, sizeof buffer)) > 0)
        if (stream->write(buffer, size_t(count)) != count)
            return;
}

void serve() {
    begin();
    const std::unique_ptr<photon::net::ISocketServer> server(photon::net::new_tcp_socket_server());
    check(server != nullptr, "no server");
    check(server->bind_v4localhost() == 0, "bind");
    check(server->listen(SOMAXCONN) == 0, "listen");
    announce(server->getsockname().port);
    for (;;) {
        // With TCP_NODELAY, which it has from the listener.
        photon::net::ISocketStream *stream = server->accept();
        check(stream != nullptr, "accept");
        check(photon::thread_create11(STACK, echo, stream) != nullptr, "no thread");
    }
}

// On the main thread, in Photon.
template <class Work> Workload in_photon(Work work) {
    return [work](int64_t count, int64_t operations) {
        begin();
        return work(count, operations);
    };
}

} // namespace

int main(int argc, char **argv) {
    constexpr uint64_t never = uint64_t(NEVER) * 1000;
    const Runtime photon{
        "photon",
        {
            {"yield", in_photon([](int64_t tasks, int64_t n) { return yields(tasks, n / tasks); })},
            {"spawn-join", in_photon([](int64_t, int64_t n) { return spawn_join(n); })},
            {"spawn-batch", in_photon([](int64_t size, int64_t n) { return spawn_batch(size, n / size); })},
            {"wake", in_photon([](int64_t, int64_t n) { return there_and_back(n, UINT64_MAX); })},
            {"timer-cancel", in_photon([](int64_t, int64_t n) { return there_and_back(n, never); })},
            {"sleep", in_photon([](int64_t n, int64_t) { return sleepers(n); })},
            {"parked", in_photon([](int64_t n, int64_t) { return parked(n); })},
        },
        serve,
    };
    return subject::main(argc, argv, {photon});
}
