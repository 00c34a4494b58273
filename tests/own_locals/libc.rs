//! Coroutines with thread-locals of their own are threads to libc and to
//! libraries in C: locks, keys, forks, signals, the heap, the linker.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use crate::common;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};
#[cfg(feature = "hook")]
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use crore::{Builder, JoinHandle};

thread_local!(static NUMBER: Cell<u32> = const { Cell::new(0) });

fn own<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().own_thread_locals(true).spawn(f).unwrap()
}

/// Runs `f` in such a coroutine on the calling thread.
fn in_own<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    crore::run(|| own(f).join().unwrap()).unwrap()
}

/// Runs `f` on a worker that is not the main thread, nor the test's.
fn in_own_elsewhere<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = crore::Runtime::builder().workers(2).build().unwrap();
    runtime
        .run(|| {
            let here = gettid();
            let f = std::sync::Mutex::new(Some(f));
            let f = std::sync::Arc::new(f);
            loop {
                let f = std::sync::Arc::clone(&f);
                let attempt =
                    own(move || (gettid() != here).then(|| (f.lock().unwrap().take().unwrap())()));
                // Not parked, so that only the other worker takes it.
                while !attempt.is_finished() {
                    std::hint::spin_loop();
                    if crore::Handle::metrics(&runtime.handle()).spawned == u64::MAX {
                        break;
                    }
                }
                if let Some(result) = attempt.join().unwrap() {
                    return result;
                }
            }
        })
        .unwrap()
}

fn gettid() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// A mutex of pthreads of this type.
struct Lock(Box<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: a mutex is for several threads.
unsafe impl Send for Lock {}
// SAFETY: as above.
unsafe impl Sync for Lock {}

impl Lock {
    fn new(kind: c_int) -> Self {
        let mut lock = Box::new(MaybeUninit::uninit());
        // SAFETY: both are initialised by the calls.
        unsafe {
            let mut attr = mem::zeroed();
            assert_eq!(libc::pthread_mutexattr_init(&mut attr), 0);
            assert_eq!(libc::pthread_mutexattr_settype(&mut attr, kind), 0);
            assert_eq!(libc::pthread_mutex_init(lock.as_mut_ptr(), &attr), 0);
        }
        Self(lock)
    }

    fn at(&self) -> *mut libc::pthread_mutex_t {
        self.0.as_ptr().cast_mut()
    }

    fn try_lock(&self) -> c_int {
        // SAFETY: an initialised mutex.
        unsafe { libc::pthread_mutex_trylock(self.at()) }
    }

    fn lock(&self) -> c_int {
        // SAFETY: an initialised mutex.
        unsafe { libc::pthread_mutex_lock(self.at()) }
    }

    fn unlock(&self) -> c_int {
        // SAFETY: an initialised mutex.
        unsafe { libc::pthread_mutex_unlock(self.at()) }
    }
}

#[test]
fn locks_tell_their_owners_apart() {
    static RECURSIVE: std::sync::LazyLock<Lock> =
        std::sync::LazyLock::new(|| Lock::new(libc::PTHREAD_MUTEX_RECURSIVE));
    static CHECKED: std::sync::LazyLock<Lock> =
        std::sync::LazyLock::new(|| Lock::new(libc::PTHREAD_MUTEX_ERRORCHECK));
    crore::run(|| {
        let holder = own(|| {
            assert_eq!(
                (RECURSIVE.lock(), RECURSIVE.lock(), RECURSIVE.try_lock()),
                (0, 0, 0)
            );
            assert_eq!((CHECKED.lock(), CHECKED.lock()), (0, libc::EDEADLK));
            crore::park();
            assert_eq!(
                (RECURSIVE.unlock(), RECURSIVE.unlock(), RECURSIVE.unlock()),
                (0, 0, 0)
            );
            assert_eq!((CHECKED.unlock(), CHECKED.unlock()), (0, libc::EPERM));
        });
        crore::yield_now();
        let others = [own(other), own(other)];
        fn other() {
            assert_eq!(RECURSIVE.try_lock(), libc::EBUSY);
            assert_eq!(RECURSIVE.unlock(), libc::EPERM);
            assert_eq!(CHECKED.try_lock(), libc::EBUSY);
            assert_eq!(CHECKED.unlock(), libc::EPERM);
        }
        others.into_iter().for_each(|one| one.join().unwrap());
        other();
        holder.coroutine().unpark();
        holder.join().unwrap();
        assert_eq!((RECURSIVE.try_lock(), RECURSIVE.unlock()), (0, 0));
    })
    .unwrap();
}

#[test]
fn files_of_stdio_know_who_holds_them() {
    unsafe extern "C" {
        fn flockfile(file: *mut libc::FILE);
        fn ftrylockfile(file: *mut libc::FILE) -> c_int;
        fn funlockfile(file: *mut libc::FILE);
    }
    // SAFETY: a stream of our own, closed once.
    unsafe {
        let file = libc::tmpfile() as usize;
        assert_ne!(file, 0);
        let holder = move || {
            let file = file as *mut libc::FILE;
            flockfile(file);
            assert_eq!(ftrylockfile(file), 0, "by the same: again");
            crore::park();
            funlockfile(file);
            funlockfile(file);
        };
        crore::run(|| {
            let holder = own(holder);
            crore::yield_now();
            let refused = own(move || ftrylockfile(file as *mut libc::FILE));
            assert_ne!(refused.join().unwrap(), 0);
            holder.coroutine().unpark();
            holder.join().unwrap();
            assert_eq!(ftrylockfile(file as *mut libc::FILE), 0);
        })
        .unwrap();
        libc::fclose(file as *mut libc::FILE);
    }
}

#[test]
fn values_of_keys_are_ended() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    static AGAIN: AtomicU32 = AtomicU32::new(0);
    static KEYS: std::sync::OnceLock<Vec<libc::pthread_key_t>> = std::sync::OnceLock::new();
    extern "C" fn end(value: *mut c_void) {
        ENDED.fetch_add(value as usize, Ordering::Relaxed);
    }
    /// Sets itself again, twice.
    extern "C" fn again(value: *mut c_void) {
        let count = AGAIN.fetch_add(1, Ordering::Relaxed);
        if count % 3 < 2 {
            let key = *KEYS.get().unwrap().last().unwrap();
            // SAFETY: a key of ours.
            unsafe { libc::pthread_setspecific(key, value) };
        }
    }
    // More than glibc's first table holds.
    let keys = (0..80).map(|i| {
        let mut key = 0;
        let destructor = if i == 79 { again } else { end };
        // SAFETY: a place for the key; functions that fit.
        let code = unsafe { libc::pthread_key_create(&mut key, Some(destructor)) };
        assert_eq!(code, 0);
        key
    });
    KEYS.set(keys.collect()).unwrap();
    let keys = KEYS.get().unwrap();
    crore::run(|| {
        let all: Vec<_> = (1..=20)
            .map(|i| {
                own(move || {
                    for &key in KEYS.get().unwrap() {
                        // SAFETY: keys of ours; values that are not followed.
                        unsafe {
                            assert!(libc::pthread_getspecific(key).is_null());
                            libc::pthread_setspecific(key, i as *const c_void);
                        }
                    }
                    crore::yield_now();
                    for &key in KEYS.get().unwrap() {
                        // SAFETY: as above.
                        assert_eq!(unsafe { libc::pthread_getspecific(key) } as usize, i);
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    })
    .unwrap();
    assert_eq!(ENDED.load(Ordering::Relaxed), 79 * (1..=20).sum::<usize>());
    assert_eq!(AGAIN.load(Ordering::Relaxed), 3 * 20);
    // SAFETY: keys of ours, without values by now.
    keys.iter()
        .for_each(|&key| assert_eq!(unsafe { libc::pthread_key_delete(key) }, 0));
}

#[test]
fn memory_goes_from_one_to_the_other() {
    crore::run(|| {
        let (sender, receiver) = crore::sync::channel::bounded::<Vec<Vec<u8>>>(4);
        let makers: Vec<_> = (0..8usize)
            .map(|i| {
                let sender = sender.clone();
                own(move || {
                    for round in 0..200 {
                        let sizes = (0..50).map(|j| (i + 1) * (j + 1) * (round % 7 + 1));
                        let made = sizes.map(|size| vec![size as u8; size]).collect();
                        sender.send(made).unwrap();
                    }
                })
            })
            .collect();
        drop(sender);
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let receiver = receiver.clone();
                own(move || {
                    let mut count = 0;
                    while let Ok(taken) = receiver.recv() {
                        for one in taken {
                            assert!(one.iter().all(|&byte| byte == one.len() as u8));
                            count += 1;
                        }
                    }
                    count
                })
            })
            .collect();
        makers.into_iter().for_each(|one| one.join().unwrap());
        let count: usize = takers.into_iter().map(|one| one.join().unwrap()).sum();
        assert_eq!(count, 8 * 200 * 50);
    })
    .unwrap();
}

/// What the child of `fork` says: its exit status.
fn status_of(pid: i32) -> i32 {
    assert!(pid > 0, "{}", io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: our own child, a valid place.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "{status:#x}");
    libc::WEXITSTATUS(status)
}

/// Forks in a coroutine; the child looks around and starts threads.
fn forks() {
    NUMBER.set(41);
    let id = std::thread::current().id();
    // SAFETY: the child only does what follows.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = child(id);
        // SAFETY: ends the child.
        unsafe { libc::_exit(code) };
    }
    assert_eq!(status_of(pid), 0);
    assert_eq!(NUMBER.get(), 41);
    assert_eq!(std::thread::current().id(), id);
    crore::yield_now();
    assert_eq!(NUMBER.get(), 41);
}

/// In the child: 0, or the line of what is wrong.
fn child(id: std::thread::ThreadId) -> i32 {
    macro_rules! check {
        ($what:expr) => {
            if !$what {
                return (line!() % 250 + 1) as i32;
            }
        };
    }
    check!(NUMBER.replace(42) == 41);
    check!(std::thread::current().id() == id);
    check!(gettid() as u32 == std::process::id());
    check!(crore::try_current().is_none());
    // SAFETY: a signal that is blocked for nobody, with the default "ignore".
    check!(unsafe { libc::raise(libc::SIGURG) } == 0);
    let other = std::thread::spawn(|| (NUMBER.get(), vec![1u8; 100_000].len()));
    check!(other.join().unwrap() == (0, 100_000));
    check!(NUMBER.get() == 42);
    // A runtime of its own, with such coroutines.
    let inner = crore::run(|| own(|| NUMBER.replace(1)).join().unwrap());
    check!(inner.unwrap() == 0);
    check!(NUMBER.get() == 42);
    // And a child of its own.
    // SAFETY: that child ends at once.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: ends it.
        unsafe { libc::_exit(NUMBER.get() as i32) };
    }
    check!(status_of(pid) == 42);
    0
}

#[test]
fn a_coroutine_forks() {
    // In a process of its own: std takes a lock where a thread begins, which another test's
    // may have when it is forked.
    let name = "a_coroutine_forks";
    common::succeeds(name, || {
        in_own(forks);
    });
}

#[test]
fn a_coroutine_forks_on_another_worker() {
    // As above.
    let name = "a_coroutine_forks_on_another_worker";
    common::succeeds(name, || {
        in_own_elsewhere(forks);
    });
}

#[test]
fn the_child_ends_with_the_coroutine_and_its_thread_locals() {
    static PID: AtomicI32 = AtomicI32::new(0);
    let name = "the_child_ends_with_the_coroutine_and_its_thread_locals";
    struct Says;
    impl Drop for Says {
        fn drop(&mut self) {
            eprintln!("thread-local ended in {}", std::process::id());
        }
    }
    thread_local!(static SAYS: Cell<Option<Says>> = const { Cell::new(None) });
    let output = common::in_child(name, || {
        let before = std::process::id();
        in_own(move || {
            SAYS.set(Some(Says));
            // SAFETY: the child goes on as this coroutine.
            let pid = unsafe { libc::fork() };
            PID.store(pid, Ordering::Relaxed);
            if pid != 0 {
                assert_eq!(status_of(pid), 0);
            }
        });
        assert_eq!(std::process::id(), before, "the child does not come here");
        eprintln!("parent {before} child {}", PID.load(Ordering::Relaxed));
    });
    let text = common::stderr(&output);
    assert!(output.status.success(), "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("parent"))
        .unwrap();
    let [_, parent, _, child] = line.split(' ').collect::<Vec<_>>()[..] else {
        panic!()
    };
    for pid in [parent, child] {
        let said = format!("thread-local ended in {pid}");
        assert_eq!(
            text.lines().filter(|line| **line == said).count(),
            1,
            "{text}"
        );
    }
}

#[test]
fn threads_start_in_coroutines() {
    crore::run(|| {
        let all: Vec<_> = (0..10u32)
            .map(|i| {
                own(move || {
                    NUMBER.set(i + 1);
                    let id = std::thread::current().id();
                    let mut local = 0;
                    let there = std::thread::scope(|scope| {
                        let thread = scope.spawn(|| {
                            local = 5;
                            (NUMBER.replace(99), std::thread::current().id())
                        });
                        thread.join().unwrap()
                    });
                    assert_eq!((there.0, local), (0, 5));
                    assert_ne!(there.1, id);
                    let thread = std::thread::Builder::new().name("named".into());
                    let thread = thread.spawn(|| std::thread::current().name() == Some("named"));
                    assert!(thread.unwrap().join().unwrap());
                    assert_eq!(NUMBER.get(), i + 1);
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    })
    .unwrap();
}

#[test]
fn signal_handlers_use_the_coroutines_own() {
    extern "C" fn handle(_: c_int) {
        NUMBER.set(NUMBER.get() + 1);
        // SAFETY: libc's own thread-local.
        unsafe { *libc::__errno_location() = 99 };
    }
    // SAFETY: the handler does only what is async-signal-safe.
    unsafe { libc::signal(libc::SIGUSR1, handle as *const () as usize) };
    crore::run(|| {
        NUMBER.set(1000);
        let all: Vec<_> = (1..=10u32)
            .map(|i| {
                own(move || {
                    for sent in 0..i {
                        assert_eq!(NUMBER.get(), sent);
                        // SAFETY: the handler is in place.
                        assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
                        crore::yield_now();
                    }
                    // SAFETY: as above.
                    let code = unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
                    assert_eq!(code, 0);
                    assert_eq!(NUMBER.get(), i + 1);
                    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(99));
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
        assert_eq!(NUMBER.get(), 1000);
    })
    .unwrap();
}

#[test]
fn nobody_else_can_signal_or_join_one() {
    crore::run(|| {
        let (sender, receiver) = crore::sync::channel::bounded(1);
        let one = own(move || {
            // SAFETY: no preconditions.
            sender.send(unsafe { libc::pthread_self() }).unwrap();
            crore::park();
        });
        let thread = receiver.recv().unwrap();
        // SAFETY: the coroutine is parked, its block exists.
        unsafe {
            assert_eq!(libc::pthread_kill(thread, libc::SIGUSR2), libc::ESRCH);
            let join = || libc::pthread_join(thread, ptr::null_mut());
            assert_eq!(crore::unhooked(join), libc::EINVAL);
            assert_eq!(libc::pthread_detach(thread), libc::EINVAL);
        }
        one.coroutine().unpark();
        one.join().unwrap();
    })
    .unwrap();
}

#[test]
fn an_overflow_names_the_coroutine() {
    #[inline(never)]
    fn deep(n: u64) -> u64 {
        let frame = std::hint::black_box([n; 64]);
        if n == 0 { 0 } else { deep(n - 1) + frame[3] }
    }
    let output = common::in_child("an_overflow_names_the_coroutine", || {
        let builder = Builder::new()
            .name("deep one".into())
            .own_thread_locals(true);
        crore::run(|| builder.spawn(|| deep(1 << 40)).unwrap().join().unwrap()).unwrap();
    });
    let text = common::stderr(&output);
    assert!(
        text.contains("stack overflow in coroutine 'deep one'"),
        "{text}"
    );
    assert!(!output.status.success());
}

/// `LC_GLOBAL_LOCALE` of `locale.h`.
const GLOBAL_LOCALE: libc::locale_t = usize::MAX as libc::locale_t;

#[test]
fn each_has_its_locale_and_the_programs_to_begin_with() {
    in_own(|| {
        let all: Vec<_> = (0..10)
            .map(|i| {
                own(move || {
                    // SAFETY: locales of libc's own and one that we free after
                    // we have left it.
                    unsafe {
                        assert_eq!(libc::uselocale(ptr::null_mut()), GLOBAL_LOCALE);
                        assert_ne!(libc::isalpha(c_int::from(b'x')), 0);
                        let c = libc::newlocale(libc::LC_ALL_MASK, c"C".as_ptr(), ptr::null_mut());
                        if i % 2 == 0 {
                            libc::uselocale(c);
                        }
                        crore::yield_now();
                        let expected = if i % 2 == 0 { c } else { GLOBAL_LOCALE };
                        assert_eq!(libc::uselocale(ptr::null_mut()), expected);
                        libc::uselocale(GLOBAL_LOCALE);
                        libc::freelocale(c);
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    });
}

#[cfg(feature = "hook")]
#[test]
fn its_stack_is_its_own() {
    in_own(|| {
        let local = 0u8;
        let here = ptr::from_ref(&local).addr();
        // SAFETY: initialised by the calls.
        unsafe {
            let mut attr = mem::zeroed();
            assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), &mut attr), 0);
            let (mut stack, mut len, mut guard) = (ptr::null_mut(), 0, 0);
            assert_eq!(libc::pthread_attr_getstack(&attr, &mut stack, &mut len), 0);
            assert_eq!(libc::pthread_attr_getguardsize(&attr, &mut guard), 0);
            libc::pthread_attr_destroy(&mut attr);
            assert!((stack.addr()..stack.addr() + len).contains(&here));
            assert!(
                (32 * 1024..=crore::DEFAULT_STACK_SIZE).contains(&len),
                "{len}"
            );
            assert_eq!(guard, 0);
        }
    });
}

#[cfg(feature = "hook")]
#[test]
fn the_kernel_knows_its_thread() {
    unsafe extern "C" {
        fn pthread_setschedprio(thread: libc::pthread_t, priority: i32) -> i32;
    }
    let look = || {
        // SAFETY: sets and places of our own.
        unsafe {
            let this = libc::pthread_self();
            let mut set: libc::cpu_set_t = mem::zeroed();
            let len = size_of_val(&set);
            assert_eq!(libc::pthread_getaffinity_np(this, len, &mut set), 0);
            assert_ne!(libc::CPU_COUNT(&set), 0);
            assert_eq!(libc::pthread_setaffinity_np(this, len, &set), 0);
            let (mut policy, mut param) = (-1, mem::zeroed());
            assert_eq!(
                libc::pthread_getschedparam(this, &mut policy, &mut param),
                0
            );
            // As the test was started.
            assert_eq!(policy, libc::sched_getscheduler(0));
            assert_eq!(libc::pthread_setschedparam(this, policy, &param), 0);
            assert_eq!(pthread_setschedprio(this, param.sched_priority), 0);
            // No signal: only whether there is such a thread.
            let value = libc::sigval {
                sival_ptr: std::ptr::null_mut(),
            };
            assert_eq!(libc::pthread_sigqueue(this, 0, value), 0);
            let (mut clock, mut time) = (0, mem::zeroed());
            assert_eq!(libc::pthread_getcpuclockid(this, &mut clock), 0);
            assert_eq!(libc::clock_gettime(clock, &mut time), 0);
            assert!(libc::sched_getcpu() >= 0);
        }
    };
    in_own(look);
    in_own_elsewhere(look);
}

/// Threads that are no coroutines are asked, and told, themselves.
#[cfg(feature = "hook")]
#[test]
fn other_threads_are_known() {
    unsafe extern "C" {
        fn pthread_setschedprio(thread: libc::pthread_t, priority: i32) -> i32;
    }
    fn affinity(thread: libc::pthread_t) -> libc::cpu_set_t {
        // SAFETY: a place of ours, a thread that runs.
        unsafe {
            let mut set: libc::cpu_set_t = mem::zeroed();
            let len = size_of_val(&set);
            assert_eq!(libc::pthread_getaffinity_np(thread, len, &mut set), 0);
            set
        }
    }
    let look = || {
        let (go, waits) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || waits.recv());
        // SAFETY: no preconditions.
        let (this, other) = (unsafe { libc::pthread_self() }, thread.as_pthread_t());
        let (before, mut only) = (affinity(this), affinity(other));
        let mut processors = 0..libc::CPU_SETSIZE as usize;
        // SAFETY: sets of our own.
        unsafe {
            let first = processors.find(|&it| libc::CPU_ISSET(it, &only)).unwrap();
            libc::CPU_ZERO(&mut only);
            libc::CPU_SET(first, &mut only);
            let len = size_of_val(&only);
            assert_eq!(libc::pthread_setaffinity_np(other, len, &only), 0);
            assert!(libc::CPU_EQUAL(&affinity(other), &only));
            assert!(libc::CPU_EQUAL(&affinity(this), &before));
            let absurd = libc::sched_param {
                sched_priority: 1 << 20,
            };
            let policy = libc::SCHED_OTHER;
            let told = libc::pthread_setschedparam(other, policy, &absurd);
            assert_eq!(told, libc::EINVAL);
            assert_eq!(pthread_setschedprio(other, 1 << 20), libc::EINVAL);
        }
        drop(go);
        thread.join().unwrap().unwrap_err();
    };
    look();
    in_own(look);
    in_own_elsewhere(look);
}

#[cfg(feature = "hook")]
#[test]
fn the_process_can_change_its_user() {
    // In a process of its own: glibc asks every thread, and one that runs such
    // a coroutine meanwhile answers only when the coroutine parks.
    let output = common::in_child("the_process_can_change_its_user", || {
        let change = || {
            // SAFETY: to what it is; nothing else.
            unsafe {
                let (user, group) = (libc::getuid(), libc::getgid());
                assert_eq!(libc::setresuid(u32::MAX, u32::MAX, u32::MAX), 0);
                assert_eq!(libc::seteuid(user), 0);
                assert_eq!(libc::setegid(group), 0);
                assert_eq!(libc::setuid(user), 0);
            }
        };
        in_own(change);
        in_own_elsewhere(change);
        // And a plain thread, while blocks exist.
        crore::run(|| {
            let parked: Vec<_> = (0..10).map(|_| own(crore::park)).collect();
            crore::yield_now();
            std::thread::spawn(change).join().unwrap();
            for one in parked {
                one.coroutine().unpark();
                one.join().unwrap();
            }
        })
        .unwrap();
    });
    assert!(output.status.success(), "{}", common::stderr(&output));
}

#[test]
fn errors_of_the_linker_and_names_of_errors_are_each_ones_own() {
    fn error() -> Option<String> {
        // SAFETY: a string that stays until the next call here.
        let error = unsafe { libc::dlerror() };
        // SAFETY: as above.
        (!error.is_null()).then(|| unsafe { CStr::from_ptr(error) }.to_str().unwrap().into())
    }
    in_own(|| {
        let all: Vec<_> = (0..20)
            .map(|i| {
                own(move || {
                    assert_eq!(error(), None);
                    let name = CString::new(format!("no such symbol {i}")).unwrap();
                    // SAFETY: a valid name.
                    assert!(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.is_null());
                    // SAFETY: an error without a name; libc makes one up.
                    let text = unsafe { libc::strerror(5000 + i) };
                    crore::yield_now();
                    assert!(error().unwrap().ends_with(name.to_str().unwrap()));
                    // SAFETY: the string stays until this one asks again.
                    let text = unsafe { CStr::from_ptr(text) }.to_str().unwrap();
                    assert_eq!(text, format!("Unknown error {}", 5000 + i));
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    });
}

/// Runs until it is killed; a debugger finds it here.
#[inline(never)]
fn where_a_debugger_looks(stop: &AtomicU32) {
    while stop.load(Ordering::Relaxed) == 0 {
        std::hint::spin_loop();
    }
}

#[test]
#[ignore = "needs gdb, and the right to attach it"]
fn a_debugger_follows_it() {
    use std::io::Read;
    use std::process::{Command, Stdio};
    const CHILD: &str = "CRORE_TEST_DEBUGGED";
    static STOP: AtomicU32 = AtomicU32::new(0);
    if std::env::var_os(CHILD).is_some() {
        return in_own(|| {
            eprintln!("ready");
            where_a_debugger_looks(&STOP);
        });
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &common::whole_name("a_debugger_follows_it"),
            "--nocapture",
            "--ignored",
        ])
        .env(CHILD, "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    let mut errors = child.stderr.take().unwrap();
    errors.read_exact(&mut ready).unwrap();
    let output = Command::new("gdb")
        .args(["-batch", "-nx", "-p", &child.id().to_string()])
        .args(["-ex", "info threads", "-ex", "thread apply all bt"])
        .output()
        .expect("gdb is installed");
    child.kill().unwrap();
    child.wait().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for frame in ["where_a_debugger_looks", "Carrier::resume", "start_thread"] {
        assert!(text.contains(frame), "no {frame} in {text}");
    }
    assert!(!text.contains("corrupt"), "{text}");
}

/// On x86_64 `fesetround` sets both the control word of the x87 and that of SSE.
#[test]
fn each_rounds_as_it_says_and_the_thread_as_before() {
    unsafe extern "C" {
        fn fesetround(mode: c_int) -> c_int;
        fn fegetround() -> c_int;
    }
    /// To the nearest, up, down, to zero.
    const MODES: [c_int; 4] = if cfg!(target_arch = "x86_64") {
        [0, 0x800, 0x400, 0xc00]
    } else {
        [0, 0x40_0000, 0x80_0000, 0xc0_0000]
    };
    // SAFETY: no preconditions.
    let get = || unsafe { fegetround() };
    crore::run(|| {
        let all: Vec<_> = (0..12)
            .map(|i| {
                own(move || {
                    // As the thread, whatever others do.
                    assert_eq!(get(), 0);
                    for turn in 0..20 {
                        let mode = MODES[(i + turn) % 4];
                        // SAFETY: one of its modes.
                        assert_eq!(unsafe { fesetround(mode) }, 0);
                        crore::yield_now();
                        assert_eq!(get(), mode);
                        let third = std::hint::black_box(1.0_f64) / std::hint::black_box(3.0);
                        let up = mode == MODES[1];
                        assert_eq!(third.to_bits(), 0x3fd5_5555_5555_5555 + u64::from(up));
                    }
                })
            })
            .collect();
        for one in all {
            crore::yield_now();
            assert_eq!(get(), 0);
            one.join().unwrap();
        }
    })
    .unwrap();
}

/// What was met stays noted until it is asked for.
#[test]
fn each_has_met_its_own_divisions_by_zero_and_the_thread_none() {
    unsafe extern "C" {
        fn fetestexcept(which: c_int) -> c_int;
    }
    const DIVISION: c_int = if cfg!(target_arch = "x86_64") { 4 } else { 2 };
    // SAFETY: no preconditions.
    let met = || unsafe { fetestexcept(DIVISION) } != 0;
    crore::run(|| {
        let all: Vec<_> = (0..6)
            .map(|i| {
                own(move || {
                    for turn in 0..6 {
                        assert_eq!(met(), turn > i);
                        if turn >= i {
                            let none = std::hint::black_box(1.0) / std::hint::black_box(0.0_f64);
                            assert_eq!(none, f64::INFINITY);
                        }
                        crore::yield_now();
                    }
                })
            })
            .collect();
        for one in all {
            crore::yield_now();
            assert!(!met());
            one.join().unwrap();
        }
    })
    .unwrap();
}

/// The x87 tells of what it has met at its next instruction, be that another coroutine's.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_coroutine_is_not_told_of_the_divisions_of_others() {
    const DIVISION: u16 = 4;
    let met = || {
        let mut status = 0_u16;
        // SAFETY: stores two bytes into a live place.
        unsafe { std::arch::asm!("fnstsw [{}]", in(reg) &raw mut status) };
        status & DIVISION != 0
    };
    let wait = || {
        // SAFETY: the next instruction, which would be told.
        unsafe { std::arch::asm!("fwait") };
    };
    let output = common::in_child(
        "a_coroutine_is_not_told_of_the_divisions_of_others",
        move || {
            crore::run(move || {
                let strict = own(move || {
                    let mut control = 0_u16;
                    // SAFETY: stores two bytes, and loads them, without the mask of divisions.
                    unsafe { std::arch::asm!("fnstcw [{}]", in(reg) &raw mut control) };
                    control &= !DIVISION;
                    // SAFETY: as above.
                    unsafe { std::arch::asm!("fldcw [{}]", in(reg) &raw const control) };
                    for _ in 0..10 {
                        crore::yield_now();
                        wait();
                        assert!(!met());
                    }
                });
                let lax = own(move || {
                    for turn in 0..10 {
                        assert_eq!(met(), turn > 0);
                        // SAFETY: an empty stack of registers before and after.
                        unsafe { std::arch::asm!("fld1", "fldz", "fdivp st(1), st", "fstp st(0)") };
                        crore::yield_now();
                        wait();
                        assert!(met());
                    }
                });
                for one in [strict, lax] {
                    one.join().unwrap();
                    wait();
                    assert!(!met());
                }
            })
            .unwrap();
        },
    );
    assert!(
        output.status.success(),
        "{:?} {}",
        output.status,
        common::stderr(&output)
    );
}
