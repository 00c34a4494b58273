//! pthreads and C11 threads, as C calls them.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use libc::{pthread_attr_t, pthread_t};

use crate::same;

type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

unsafe extern "C-unwind" {
    fn pthread_exit(value: *mut c_void) -> !;
    fn thrd_exit(value: c_int) -> !;
    fn pthread_testcancel();
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    fn pthread_setcanceltype(kind: c_int, old: *mut c_int) -> c_int;
}

unsafe extern "C" {
    fn pthread_create(
        thread: *mut pthread_t,
        attr: *const pthread_attr_t,
        start: Start,
        arg: *mut c_void,
    ) -> c_int;
    fn pthread_tryjoin_np(thread: pthread_t, value: *mut *mut c_void) -> c_int;
    fn pthread_timedjoin_np(
        thread: pthread_t,
        value: *mut *mut c_void,
        time: *const libc::timespec,
    ) -> c_int;
    fn pthread_attr_getdetachstate(attr: *const pthread_attr_t, state: *mut c_int) -> c_int;
    fn thrd_create(
        thread: *mut pthread_t,
        start: unsafe extern "C-unwind" fn(*mut c_void) -> c_int,
        arg: *mut c_void,
    ) -> c_int;
    fn thrd_join(thread: pthread_t, value: *mut c_int) -> c_int;
    fn thrd_detach(thread: pthread_t) -> c_int;
}

fn start(routine: Start, arg: usize) -> pthread_t {
    start_with(None, routine, arg).unwrap()
}

fn start_with(
    attr: Option<&pthread_attr_t>,
    routine: Start,
    arg: usize,
) -> Result<pthread_t, c_int> {
    let mut thread = 0;
    let attr = attr.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: valid places; the routines here take any number.
    match unsafe { pthread_create(&mut thread, attr, routine, ptr::without_provenance_mut(arg)) } {
        0 => Ok(thread),
        code => Err(code),
    }
}

fn join(thread: pthread_t) -> Result<usize, c_int> {
    let mut value = ptr::null_mut();
    // SAFETY: a thread that the test started.
    match unsafe { libc::pthread_join(thread, &mut value) } {
        0 => Ok(value.addr()),
        code => Err(code),
    }
}

unsafe extern "C-unwind" fn echo(arg: *mut c_void) -> *mut c_void {
    arg
}

unsafe extern "C-unwind" fn naps(arg: *mut c_void) -> *mut c_void {
    std::thread::sleep(Duration::from_millis(arg.addr() as u64));
    arg
}

/// Waits until the word that `arg` points to is set.
unsafe extern "C-unwind" fn waits(arg: *mut c_void) -> *mut c_void {
    // SAFETY: the tests' words are statics.
    let word = unsafe { &*arg.cast::<AtomicU32>() };
    while word.load(Ordering::Acquire) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    ptr::null_mut()
}

#[test]
fn a_join_gives_what_the_routine_returned() {
    same(|| {
        let threads: Vec<_> = (0..200).map(|i| start(echo, i)).collect();
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
}

#[test]
fn a_block_is_not_used_again_before_its_thread_is_joined() {
    same(|| {
        let first: Vec<_> = (0..50).map(|i| start(echo, i)).collect();
        // Those end meanwhile, most likely; if not, the test asks for less.
        std::thread::sleep(Duration::from_millis(20));
        let second: Vec<_> = (50..100).map(|i| start(echo, i)).collect();
        let mut ids = [&first[..], &second[..]].concat();
        let values: Vec<_> = ids.iter().map(|&id| join(id)).collect();
        ids.sort();
        ids.dedup();
        (ids.len(), values)
    });
}

#[test]
fn the_creator_knows_the_thread_by_what_it_knows_itself() {
    unsafe extern "C-unwind" fn itself(_: *mut c_void) -> *mut c_void {
        // SAFETY: no preconditions.
        ptr::without_provenance_mut(unsafe { libc::pthread_self() } as usize)
    }
    same(|| {
        let thread = start(itself, 0);
        join(thread) == Ok(thread as usize)
    });
}

#[test]
fn joins_that_can_not_be_are_refused() {
    unsafe extern "C-unwind" fn joins_itself(_: *mut c_void) -> *mut c_void {
        // SAFETY: no preconditions.
        let code = join(unsafe { libc::pthread_self() }).unwrap_err();
        ptr::without_provenance_mut(code as usize)
    }
    same(|| {
        static GO: AtomicU32 = AtomicU32::new(0);
        GO.store(0, Ordering::Release);
        let detached = start(waits, GO.as_ptr().expose_provenance());
        // SAFETY: a thread that runs.
        let detach = || unsafe { libc::pthread_detach(detached) };
        let said = [detach(), detach(), join(detached).unwrap_err()];
        GO.store(1, Ordering::Release);
        (said, join(start(joins_itself, 0)))
    });
}

#[test]
fn two_that_join_each_other_are_told() {
    static OTHER: AtomicUsize = AtomicUsize::new(0);
    static UNJOINED: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C-unwind" fn joins_its_creator(creator: *mut c_void) -> *mut c_void {
        let code = join(creator.addr() as pthread_t).err().unwrap_or(0);
        ptr::without_provenance_mut(code as usize)
    }
    unsafe extern "C-unwind" fn creator(_: *mut c_void) -> *mut c_void {
        // SAFETY: no preconditions.
        let this = unsafe { libc::pthread_self() } as usize;
        let thread = start(joins_its_creator, this);
        // Whoever comes second is told.
        let joined = join(thread);
        let unjoined = joined.map_or(thread, |_| this as pthread_t);
        UNJOINED.store(unjoined as usize, Ordering::Release);
        let told = joined.unwrap_or_else(|code| code as usize);
        OTHER.store(told, Ordering::Release);
        ptr::null_mut()
    }
    // (libc lets both wait, for ever.)
    crate::with_coroutines(2, || {
        start(creator, 0);
        while OTHER.load(Ordering::Acquire) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = join(UNJOINED.load(Ordering::Acquire) as pthread_t);
    });
    assert_eq!(OTHER.load(Ordering::Acquire), libc::EDEADLK as usize);
}

#[test]
fn joins_with_a_limit_end_there_and_can_be_made_again() {
    same(|| {
        static GO: AtomicU32 = AtomicU32::new(0);
        GO.store(0, Ordering::Release);
        let thread = start(waits, GO.as_ptr().expose_provenance());
        let soon = libc::timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        // SAFETY: a thread that the test started, valid places.
        let said = unsafe {
            [
                pthread_tryjoin_np(thread, ptr::null_mut()),
                pthread_timedjoin_np(thread, ptr::null_mut(), &soon),
            ]
        };
        GO.store(1, Ordering::Release);
        (said, join(thread))
    });
}

/// Attributes of a test's own.
fn attributes(change: impl FnOnce(*mut pthread_attr_t)) -> pthread_attr_t {
    let mut attr = MaybeUninit::uninit();
    // SAFETY: made by the call.
    unsafe {
        libc::pthread_attr_init(attr.as_mut_ptr());
        change(attr.as_mut_ptr());
        attr.assume_init()
    }
}

#[test]
fn attributes_are_those_that_were_asked_for() {
    /// Stack size in KiB, whether there is a guard, whether this frame is on the stack,
    /// detached or not.
    unsafe extern "C-unwind" fn looks(_: *mut c_void) -> *mut c_void {
        let here = 0_u8;
        // SAFETY: places of ours.
        let seen = unsafe {
            let mut attr = MaybeUninit::uninit();
            let code = libc::pthread_getattr_np(libc::pthread_self(), attr.as_mut_ptr());
            assert_eq!(code, 0);
            let attr = attr.assume_init();
            let (mut at, mut len, mut guard, mut state) = (ptr::null_mut(), 0, 0, 0);
            libc::pthread_attr_getstack(&attr, &mut at, &mut len);
            libc::pthread_attr_getguardsize(&attr, &mut guard);
            pthread_attr_getdetachstate(&attr, &mut state);
            let on_it = (at.addr()..at.addr() + len).contains(&ptr::from_ref(&here).addr());
            (len >= 512 << 10, guard > 0, on_it, state)
        };
        assert!(seen.0 && seen.1 && seen.2, "{seen:?}");
        ptr::without_provenance_mut(seen.3 as usize)
    }
    same(|| {
        let attr = attributes(|attr| {
            // SAFETY: attributes.
            unsafe { libc::pthread_attr_setstacksize(attr, 512 << 10) };
        });
        join(start_with(Some(&attr), looks, 0).unwrap())
    });
}

#[test]
fn detached_threads_run_to_their_end() {
    static DONE: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C-unwind" fn counts(_: *mut c_void) -> *mut c_void {
        DONE.fetch_add(1, Ordering::AcqRel);
        ptr::null_mut()
    }
    same(|| {
        DONE.store(0, Ordering::Release);
        let attr = attributes(|attr| {
            // SAFETY: attributes.
            unsafe { libc::pthread_attr_setdetachstate(attr, libc::PTHREAD_CREATE_DETACHED) };
        });
        for _ in 0..100 {
            start_with(Some(&attr), counts, 0).unwrap();
        }
        while DONE.load(Ordering::Acquire) < 100 {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// What ended, in which order.
static ENDED: std::sync::Mutex<Vec<&str>> = std::sync::Mutex::new(Vec::new());

fn note(what: &'static str) {
    ENDED.lock().unwrap().push(what);
}

/// A frame that says when it is dropped.
struct Says(&'static str);

impl Drop for Says {
    fn drop(&mut self) {
        note(self.0);
    }
}

thread_local!(static LOCAL: Says = const { Says("thread-local") });

unsafe extern "C" fn ends_key(_: *mut c_void) {
    note("key");
}

fn exits(value: usize) -> ! {
    // SAFETY: the frames above own nothing.
    unsafe { pthread_exit(ptr::without_provenance_mut(value)) }
}

#[test]
fn an_exit_ends_the_thread_from_any_depth() {
    fn deeper(depth: usize, value: usize) -> usize {
        match depth {
            0 => exits(value),
            _ => std::hint::black_box(deeper(depth - 1, value) + 1),
        }
    }
    unsafe extern "C-unwind" fn runs(arg: *mut c_void) -> *mut c_void {
        LOCAL.with(|_| ());
        let mut key = 0;
        // SAFETY: a key of the test's own.
        unsafe {
            libc::pthread_key_create(&mut key, Some(ends_key));
            libc::pthread_setspecific(key, ptr::dangling());
        }
        ptr::without_provenance_mut(deeper(20, arg.addr()))
    }
    same(|| {
        ENDED.lock().unwrap().clear();
        let value = join(start(runs, 77));
        (value, ENDED.lock().unwrap().clone())
    });
}

#[test]
fn names_are_each_threads_own() {
    fn name(of: pthread_t) -> String {
        let mut name = [0; 16];
        // SAFETY: a place of that length.
        let code = unsafe { libc::pthread_getname_np(of, name.as_mut_ptr(), name.len()) };
        assert_eq!(code, 0);
        let name = name.map(|byte: c_char| byte.to_ne_bytes()[0]);
        String::from_utf8_lossy(&name).trim_end_matches('\0').into()
    }
    fn set_name(of: pthread_t, name: &str) -> c_int {
        let name = CString::new(name).unwrap();
        // SAFETY: a string.
        unsafe { libc::pthread_setname_np(of, name.as_ptr()) }
    }
    same(|| {
        static GO: AtomicU32 = AtomicU32::new(0);
        GO.store(0, Ordering::Release);
        let word = GO.as_ptr().expose_provenance();
        let [one, other] = [(); 2].map(|()| start(waits, word));
        let set = [set_name(one, "one"), set_name(other, "other")];
        let long = set_name(one, "sixteen bytes!!!");
        let said = (set, long, name(one), name(other));
        let mut short = [0; 4];
        // SAFETY: a place of that length.
        let short = unsafe { libc::pthread_getname_np(one, short.as_mut_ptr(), short.len()) };
        GO.store(1, Ordering::Release);
        (said, short, join(one), join(other))
    });
}

#[test]
fn questions_and_hints_about_threads_are_answered() {
    same(|| {
        static GO: AtomicU32 = AtomicU32::new(0);
        GO.store(0, Ordering::Release);
        let thread = start(waits, GO.as_ptr().expose_provenance());
        // SAFETY: a thread that runs, valid places.
        let said = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            let size = size_of::<libc::cpu_set_t>();
            let get = libc::pthread_getaffinity_np(thread, size, &mut set);
            let put = libc::pthread_setaffinity_np(thread, size, &set);
            let (mut policy, mut param) = (9, std::mem::zeroed::<libc::sched_param>());
            let asked = libc::pthread_getschedparam(thread, &mut policy, &mut param);
            let told = libc::pthread_setschedparam(thread, policy, &param);
            let mut clock = 0;
            let clocked = libc::pthread_getcpuclockid(thread, &mut clock);
            [
                get,
                put,
                asked,
                told,
                libc::CPU_COUNT(&set).min(1),
                policy,
                clocked,
            ]
        };
        GO.store(1, Ordering::Release);
        (said, join(thread))
    });
}

#[test]
fn signal_stacks_are_each_threads_own() {
    unsafe extern "C-unwind" fn sets(memory: *mut c_void) -> *mut c_void {
        // SAFETY: memory that is the thread's alone and outlives it.
        unsafe {
            let new = libc::stack_t {
                ss_sp: memory,
                ss_flags: 0,
                ss_size: 1 << 14,
            };
            let (mut before, mut after) = std::mem::zeroed::<(libc::stack_t, libc::stack_t)>();
            let codes = [
                libc::sigaltstack(ptr::null(), &mut before),
                libc::sigaltstack(&new, ptr::null_mut()),
                libc::sigaltstack(ptr::null(), &mut after),
                libc::sigaltstack(&before, ptr::null_mut()),
            ];
            let fine = codes == [0; 4] && after.ss_sp == memory;
            ptr::without_provenance_mut(usize::from(fine))
        }
    }
    same(|| {
        let memory = [(); 2].map(|()| Box::leak(Box::new([0_u8; 1 << 14])));
        let threads = memory.map(|memory| start(sets, memory.as_mut_ptr().expose_provenance()));
        threads.map(join)
    });
}

#[test]
fn c11_threads_are_threads() {
    unsafe extern "C-unwind" fn returns(arg: *mut c_void) -> c_int {
        arg.addr() as c_int - 5
    }
    unsafe extern "C-unwind" fn leaves(arg: *mut c_void) -> c_int {
        // SAFETY: no frame above owns anything.
        unsafe { thrd_exit(arg.addr() as c_int) }
    }
    same(|| {
        let run = |routine, arg| {
            let (mut thread, mut value) = (0, 0);
            // SAFETY: valid places, a routine that takes numbers.
            let codes = unsafe {
                let made = thrd_create(&mut thread, routine, ptr::without_provenance_mut(arg));
                (made, thrd_join(thread, &mut value))
            };
            (codes, value)
        };
        let mut thread = 0;
        // SAFETY: as above.
        let detached = unsafe {
            let made = thrd_create(&mut thread, returns, ptr::null_mut());
            (made, thrd_detach(thread))
        };
        (run(returns, 3), run(leaves, 9), detached)
    });
}

#[test]
fn a_thread_with_a_stack_of_the_programs_runs_on_it() {
    unsafe extern "C-unwind" fn looks(_: *mut c_void) -> *mut c_void {
        let here = 0_u8;
        ptr::without_provenance_mut(ptr::from_ref(&here).addr())
    }
    same(|| {
        let memory = vec![0_u64; 1 << 15].leak();
        let attr = attributes(|attr| {
            // SAFETY: memory that is the thread's alone.
            unsafe {
                libc::pthread_attr_setstack(attr, memory.as_mut_ptr().cast(), size_of_val(memory))
            };
        });
        let at = join(start_with(Some(&attr), looks, 0).unwrap()).unwrap();
        let begin = memory.as_ptr().addr();
        (begin..begin + size_of_val(memory)).contains(&at)
    });
}

#[test]
fn naps_are_taken_side_by_side() {
    // In turn they would take a hundred seconds.
    let begun = std::time::Instant::now();
    crate::with_coroutines(1, || {
        let threads: Vec<_> = (0..1000).map(|_| start(naps, 100)).collect();
        threads
            .into_iter()
            .for_each(|thread| assert_eq!(join(thread), Ok(100)));
    });
    assert!(begun.elapsed() < Duration::from_secs(50));
}

#[test]
fn signal_masks_are_each_threads_own_and_inherited() {
    fn mask() -> libc::sigset_t {
        // SAFETY: a place of ours.
        unsafe {
            let mut mask = std::mem::zeroed();
            assert_eq!(
                libc::sigprocmask(libc::SIG_BLOCK, ptr::null(), &mut mask),
                0
            );
            mask
        }
    }
    fn blocks(signal: c_int) -> usize {
        // SAFETY: a set.
        usize::from(unsafe { libc::sigismember(&mask(), signal) } == 1)
    }
    fn block(how: c_int, signal: c_int) {
        // SAFETY: a set of ours.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal);
            assert_eq!(libc::pthread_sigmask(how, &set, ptr::null_mut()), 0);
        }
    }
    unsafe extern "C-unwind" fn changes(_: *mut c_void) -> *mut c_void {
        let inherited = blocks(libc::SIGUSR2);
        block(libc::SIG_UNBLOCK, libc::SIGUSR2);
        block(libc::SIG_BLOCK, libc::SIGWINCH);
        std::thread::sleep(Duration::from_millis(5));
        ptr::without_provenance_mut(
            inherited * 100 + blocks(libc::SIGUSR2) * 10 + blocks(libc::SIGWINCH),
        )
    }
    same(|| {
        block(libc::SIG_BLOCK, libc::SIGUSR2);
        let threads: Vec<_> = (0..5).map(|_| start(changes, 0)).collect();
        let said: Vec<_> = threads.into_iter().map(join).collect();
        let here = (blocks(libc::SIGUSR2), blocks(libc::SIGWINCH));
        block(libc::SIG_UNBLOCK, libc::SIGUSR2);
        let mut old = mask();
        // SAFETY: a set, a place.
        let wrong = unsafe { libc::pthread_sigmask(77, &mask(), &mut old) };
        (said, here, blocks(libc::SIGUSR2), wrong)
    });
}

#[test]
fn a_thread_ends_where_it_asks_for_its_cancellation() {
    unsafe extern "C-unwind" fn asks(_: *mut c_void) -> *mut c_void {
        loop {
            // SAFETY: no frame here owns anything.
            unsafe { pthread_testcancel() };
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    same(|| {
        let thread = start(asks, 0);
        std::thread::sleep(Duration::from_millis(5));
        // SAFETY: a thread that runs.
        let code = unsafe { libc::pthread_cancel(thread) };
        (code, join(thread))
    });
}

#[test]
fn a_thread_says_whether_it_may_be_cancelled() {
    const ENABLE: c_int = 0;
    const DISABLE: c_int = 1;
    const ASYNCHRONOUS: c_int = 1;
    unsafe extern "C-unwind" fn asks_itself(arg: *mut c_void) -> *mut c_void {
        let mut was = [-1; 3];
        // SAFETY: places of ours; no frame here owns anything.
        unsafe {
            pthread_setcancelstate(DISABLE, &mut was[0]);
            libc::pthread_cancel(libc::pthread_self());
            pthread_testcancel();
            assert_eq!(pthread_setcancelstate(7, ptr::null_mut()), libc::EINVAL);
            pthread_setcancelstate(ENABLE, &mut was[1]);
            assert_eq!(was, [ENABLE, DISABLE, -1]);
            match arg.addr() {
                0 => pthread_testcancel(),
                _ => _ = pthread_setcanceltype(ASYNCHRONOUS, &mut was[2]),
            }
        }
        arg
    }
    same(|| [join(start(asks_itself, 0)), join(start(asks_itself, 1))]);
}

fn set(signal: c_int) -> libc::sigset_t {
    // SAFETY: a set of ours.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        set
    }
}

/// A call that any handler ends (whatever `SA_RESTART` says) goes on if none has run, here
/// to its end.
#[test]
fn a_cancellation_that_is_not_let_in_ends_no_wait_for_signals() {
    const DISABLED: c_int = 1;
    static WAITS: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C-unwind" fn waits(_: *mut c_void) -> *mut c_void {
        let soon = libc::timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        // SAFETY: a set and a time of ours.
        let signal = unsafe {
            pthread_setcancelstate(DISABLED, ptr::null_mut());
            WAITS.store(1, Ordering::Release);
            libc::sigtimedwait(&set(libc::SIGUSR2), ptr::null_mut(), &soon)
        };
        let late = std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
        ptr::without_provenance_mut(usize::from(signal == -1 && late))
    }
    same(|| {
        WAITS.store(0, Ordering::Release);
        let thread = start(waits, 0);
        while WAITS.load(Ordering::Acquire) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // SAFETY: a thread that is not joined.
        let cancelled = unsafe { libc::pthread_cancel(thread) };
        assert_eq!((cancelled, join(thread)), (0, Ok(1)));
    });
}

/// Handlers that run in other threads end no thread's `pause`.
#[test]
fn a_pause_is_its_threads_own() {
    // No other test's.
    const SIGNAL: c_int = libc::SIGIO;
    static RETURNED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
    extern "C" fn handler(_: c_int) {}
    unsafe extern "C-unwind" fn pauses(which: *mut c_void) -> *mut c_void {
        // SAFETY: no arguments.
        let said = unsafe { libc::pause() };
        RETURNED[which.addr()].store(1, Ordering::Release);
        ptr::without_provenance_mut(said as usize)
    }
    /// Sends signals until one has ended the pause: what comes before it ends none.
    fn end_pause(thread: pthread_t, which: usize) -> Result<usize, c_int> {
        while RETURNED[which].load(Ordering::Acquire) == 0 {
            // SAFETY: a thread that is not joined.
            unsafe { libc::pthread_kill(thread, SIGNAL) };
            std::thread::sleep(Duration::from_millis(1));
        }
        join(thread)
    }
    same(|| {
        for returned in &RETURNED {
            returned.store(0, Ordering::Release);
        }
        // SAFETY: a handler that does nothing.
        unsafe { libc::signal(SIGNAL, handler as *const () as usize) };
        let [one, other] = [start(pauses, 0), start(pauses, 1)];
        let first = end_pause(one, 0);
        // One that looked now and then whether any handler has run would have by now.
        std::thread::sleep(Duration::from_millis(50));
        let stays = RETURNED[1].load(Ordering::Acquire) == 0;
        (first, stays, end_pause(other, 1))
    });
}

#[test]
fn signals_of_other_threads_arrive() {
    static HANDLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn handler(_: c_int) {
        HANDLED.fetch_add(1, Ordering::AcqRel);
    }
    unsafe extern "C-unwind" fn takes(_: *mut c_void) -> *mut c_void {
        let mut signal = 0;
        // SAFETY: sets and a place of ours.
        unsafe { libc::sigwait(&set(libc::SIGUSR2), &mut signal) };
        ptr::without_provenance_mut(signal as usize)
    }
    same(|| {
        HANDLED.store(0, Ordering::Release);
        // SAFETY: sets of ours, a handler that only counts.
        unsafe {
            libc::signal(libc::SIGWINCH, handler as *const () as usize);
            let both = set(libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_BLOCK, &both, ptr::null_mut());
        }
        static GO: AtomicU32 = AtomicU32::new(0);
        GO.store(0, Ordering::Release);
        let taker = start(takes, 0);
        let other = start(waits, GO.as_ptr().expose_provenance());
        std::thread::sleep(Duration::from_millis(10));
        // SAFETY: threads that run.
        let codes = unsafe {
            [
                libc::pthread_kill(taker, 0),
                libc::pthread_kill(taker, libc::SIGUSR2),
                libc::pthread_kill(other, libc::SIGWINCH),
                libc::pthread_kill(other, 99),
            ]
        };
        while HANDLED.load(Ordering::Acquire) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        GO.store(1, Ordering::Release);
        // SAFETY: a set of ours.
        unsafe {
            let both = set(libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &both, ptr::null_mut())
        };
        (
            codes,
            join(taker),
            join(other),
            HANDLED.load(Ordering::Acquire),
        )
    });
}

#[test]
fn a_thread_has_a_number_and_signals_of_its_own() {
    unsafe extern "C" {
        fn tgkill(process: libc::pid_t, thread: libc::pid_t, signal: c_int) -> c_int;
    }
    /// What of `SIGUSR2` came before it was let in, and after.
    unsafe extern "C-unwind" fn sends_itself(_: *mut c_void) -> *mut c_void {
        thread_local! {
            static HANDLED: Cell<c_int> = const { Cell::new(0) };
        }
        extern "C" fn handler(_: c_int) {
            HANDLED.set(HANDLED.get() + 1);
        }
        // SAFETY: sets of ours, a handler that only counts.
        let seen = unsafe {
            let (mut set, mut pending) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGUSR2);
            libc::signal(libc::SIGUSR2, handler as *const () as usize);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
            let code = tgkill(libc::getpid(), libc::gettid(), libc::SIGUSR2);
            libc::sigpending(&mut pending);
            let waits = libc::sigismember(&pending, libc::SIGUSR2);
            let before = HANDLED.get();
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
            libc::raise(libc::SIGUSR2);
            [code, waits, before, HANDLED.get()]
        };
        assert_eq!(seen, [0, 1, 0, 2]);
        // SAFETY: no arguments.
        ptr::without_provenance_mut(unsafe { libc::gettid() } as usize)
    }
    same(|| {
        let numbers = [start(sends_itself, 0), start(sends_itself, 0)].map(join);
        let process = Ok(std::process::id() as usize);
        (numbers[0] == numbers[1], numbers.contains(&process))
    });
}
