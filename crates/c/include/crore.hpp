// crore for C++ (11 and later): crore.h with destructors, lambdas and exceptions.
//
//   int main() {
//       return crore::run([] {
//           auto a = crore::spawn([] { crore::sleep(std::chrono::milliseconds(1)); return 40; });
//           auto b = crore::spawn([] { return 2; });
//           return a.join() + b.join() - 42;
//       });
//   }
//
// Errors are exceptions: crore::error, and of it crore::cancelled and crore::timed_out,
// which a cancelled coroutine's waits throw, so that its destructors run. An exception
// that a coroutine's function throws ends there, and is thrown again by join.
//
// Which thread may call what, and units, are as in crore.h. The C++ runtime keeps what is
// caught at the moment for each thread: what waits here takes its coroutine's with it, so
// a catch block may wait by the functions of this file. One that waits in a blocking
// function of libc needs thread-locals of its own (crore_config.own_thread_locals).
#ifndef CRORE_HPP
#define CRORE_HPP

#include <crore.h>

#include <cxxabi.h>

#include <chrono>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace crore {

// A call that failed, with its code.
class error : public std::runtime_error {
public:
    error(int code, const std::string &text) : std::runtime_error(text), code_(code) {}
    int code() const noexcept { return code_; }

private:
    int code_;
};

// The coroutine is cancelled.
class cancelled : public error {
public:
    explicit cancelled(const std::string &text) : error(CRORE_CANCELLED, text) {}
};

// A time is over.
class timed_out : public error {
public:
    explicit timed_out(const std::string &text) : error(CRORE_TIMEOUT, text) {}
};

namespace detail {

inline void check(int code) {
    switch (code) {
    case CRORE_OK: return;
    case CRORE_CANCELLED: throw cancelled(crore_last_error());
    case CRORE_TIMEOUT: throw timed_out(crore_last_error());
    default: throw error(code, crore_last_error());
    }
}

// Exceptions that the calling coroutine has caught are its own while this lives.
class apart {
public:
    apart() noexcept {
        std::memcpy(kept_, abi::__cxa_get_globals(), sizeof kept_);
        std::memset(static_cast<void *>(abi::__cxa_get_globals()), 0, sizeof kept_);
    }
    apart(const apart &) = delete;
    ~apart() { std::memcpy(static_cast<void *>(abi::__cxa_get_globals()), kept_, sizeof kept_); }

private:
    // What is caught, and how many are not (Itanium C++ ABI, 2.2.2).
    char kept_[sizeof(void *) + sizeof(unsigned)];
};

// A call that waits.
template <class F> int waits(F f) {
    apart others;
    return f();
}

template <class Rep, class Period>
uint64_t nanoseconds(std::chrono::duration<Rep, Period> time) {
    using std::chrono::nanoseconds;
    if (time <= time.zero()) return 0;
    if (std::chrono::duration<double>(time) > std::chrono::hours(24 * 365 * 500)) return UINT64_MAX;
    return static_cast<uint64_t>(std::chrono::duration_cast<nanoseconds>(time).count());
}

// What a function has come to: a value, or an exception.
template <class T> struct outcome {
    std::unique_ptr<T> value;
    std::exception_ptr thrown;

    template <class F> void run(F &f) noexcept {
        try {
            value.reset(new T(f()));
        } catch (...) {
            thrown = std::current_exception();
        }
    }
    T take() {
        if (thrown) std::rethrow_exception(thrown);
        return std::move(*value);
    }
};

template <> struct outcome<void> {
    std::exception_ptr thrown;

    template <class F> void run(F &f) noexcept {
        try {
            f();
        } catch (...) {
            thrown = std::current_exception();
        }
    }
    void take() {
        if (thrown) std::rethrow_exception(thrown);
    }
};

template <class F> using result_of = decltype(std::declval<F &>()());

// A function and its outcome, shared by the coroutine and who joins it.
template <class F> struct job {
    F f;
    outcome<result_of<F>> result;

    explicit job(F f) : f(std::move(f)) {}
};

template <class F> void *run_borrowed(void *arg) noexcept {
    auto &one = *static_cast<job<F> *>(arg);
    one.result.run(one.f);
    return nullptr;
}

template <class F> void *run_owned(void *arg) noexcept {
    std::unique_ptr<std::shared_ptr<job<F>>> one(static_cast<std::shared_ptr<job<F>> *>(arg));
    (*one)->result.run((*one)->f);
    return nullptr;
}

} // namespace detail

// A coroutine that can be joined; joined or detached at the latest when this ends: then
// it is detached, as crore::JoinHandle in Rust is.
template <class T> class task {
public:
    task() noexcept : handle_{0} {}
    task(task &&other) noexcept : handle_(other.handle_), result_(std::move(other.result_)) { other.handle_.id = 0; }
    task &operator=(task &&other) noexcept {
        std::swap(handle_, other.handle_);
        std::swap(result_, other.result_);
        return *this;
    }
    task(const task &) = delete;
    task &operator=(const task &) = delete;
    ~task() {
        if (handle_.id) crore_detach(handle_);
    }

    // Waits; the function's value, or its exception. cancelled also if the caller is.
    T join() {
        crore_task handle = handle_;
        int code = detail::waits([handle] { return crore_join(handle, nullptr); });
        if (code != CRORE_STATE) handle_.id = 0;
        detail::check(code);
        return result_->take();
    }
    void cancel() { detail::check(crore_cancel(id())); }
    uint64_t id() const {
        uint64_t id;
        detail::check(crore_task_id(handle_, &id));
        return id;
    }
    bool is_finished() const {
        int finished;
        detail::check(crore_is_finished(handle_, &finished));
        return finished != 0;
    }
    crore_task native_handle() const noexcept { return handle_; }

    // For spawn.
    task(crore_task handle, std::shared_ptr<detail::outcome<T>> result) : handle_(handle), result_(std::move(result)) {}

private:
    crore_task handle_;
    std::shared_ptr<detail::outcome<T>> result_;
};

// Spawns f(), with options of crore.h if they are given.
template <class F, class T = detail::result_of<typename std::decay<F>::type>>
task<T> spawn(F &&f, const crore_options *options = nullptr) {
    using job = detail::job<typename std::decay<F>::type>;
    auto one = std::make_shared<job>(std::forward<F>(f));
    std::shared_ptr<detail::outcome<T>> result(one, &one->result);
    std::unique_ptr<std::shared_ptr<job>> owned(new std::shared_ptr<job>(std::move(one)));
    crore_task handle;
    detail::check(crore_spawn_with(options, detail::run_owned<typename std::decay<F>::type>, owned.get(), &handle));
    owned.release();
    return task<T>(handle, std::move(result));
}

// Runs f() as the first coroutine; its value, or its exception.
template <class F> detail::result_of<typename std::decay<F>::type> run(F &&f, const crore_config *config = nullptr) {
    using function = typename std::decay<F>::type;
    detail::job<function> one(std::forward<F>(f));
    detail::check(crore_run_with(config, detail::run_borrowed<function>, &one, nullptr));
    return one.result.take();
}

// Calls f() with a time limit: timed_out if a wait in it has failed for that.
template <class F, class Rep, class Period>
detail::result_of<typename std::decay<F>::type> timeout(std::chrono::duration<Rep, Period> time, F &&f) {
    using function = typename std::decay<F>::type;
    detail::job<function> one(std::forward<F>(f));
    detail::check(crore_timeout(detail::nanoseconds(time), detail::run_borrowed<function>, &one, nullptr));
    return one.result.take();
}

inline void yield() { detail::check(detail::waits(crore_yield)); }
inline void park() { detail::check(detail::waits(crore_park)); }
inline void unpark(uint64_t id) { detail::check(crore_unpark(id)); }
inline uint64_t self() {
    uint64_t id;
    detail::check(crore_self(&id));
    return id;
}
inline bool is_cancelled() {
    int cancelled;
    detail::check(crore_is_cancelled(&cancelled));
    return cancelled != 0;
}
template <class Rep, class Period> void sleep(std::chrono::duration<Rep, Period> time) {
    uint64_t nanoseconds = detail::nanoseconds(time);
    detail::check(detail::waits([nanoseconds] { return crore_sleep(nanoseconds); }));
}

// A mutex for std::lock_guard and std::unique_lock.
class mutex {
public:
    mutex() { detail::check(crore_mutex_new(&handle_)); }
    mutex(const mutex &) = delete;
    mutex &operator=(const mutex &) = delete;
    ~mutex() { crore_mutex_free(handle_); }
    void lock() {
        crore_mutex handle = handle_;
        detail::check(detail::waits([handle] { return crore_lock(handle); }));
    }
    void unlock() noexcept { crore_unlock(handle_); }
    bool try_lock() {
        int code = crore_try_lock(handle_);
        if (code != CRORE_WOULD_BLOCK) detail::check(code);
        return code == CRORE_OK;
    }
    crore_mutex native_handle() const noexcept { return handle_; }

private:
    crore_mutex handle_;
};

// A channel of values. Copies are the same channel.
template <class T> class channel {
public:
    explicit channel(size_t capacity) : shared_(std::make_shared<ends>(capacity)) {}

    // Waits for room. Throws error with CRORE_CLOSED if it is closed.
    void send(T value) {
        std::unique_ptr<T> boxed(new T(std::move(value)));
        detail::check(detail::waits([&] { return crore_send(shared_->handle, boxed.get()); }));
        boxed.release();
    }
    // Waits for a value; null: it is closed and empty.
    std::unique_ptr<T> recv() {
        void *value = nullptr;
        int code = detail::waits([&] { return crore_recv(shared_->handle, &value); });
        if (code != CRORE_CLOSED) detail::check(code);
        return std::unique_ptr<T>(static_cast<T *>(value));
    }
    void close() { crore_channel_close(shared_->handle); }

private:
    struct ends {
        crore_channel handle;
        explicit ends(size_t capacity) { detail::check(crore_channel_new(capacity, &handle)); }
        ~ends() {
            void *value;
            while (crore_try_recv(handle, &value) == CRORE_OK) delete static_cast<T *>(value);
            crore_channel_free(handle);
        }
    };
    std::shared_ptr<ends> shared_;
};

} // namespace crore

#endif
