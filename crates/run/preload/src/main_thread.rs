//! The program's `main`, as the first of its threads.
//!
//! Every program begins in libc's `__libc_start_main`, which ours stands in front of: it
//! hands libc another `main`, which builds a runtime and starts the program's in it.
//! What was before (constructors) ran on the process's own thread, with its
//! thread-locals.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use crate::learnt;
use crate::settings::Settings;

/// As C writes it: `pthread_exit` may leave it.
type Main = unsafe extern "C-unwind" fn(c_int, *mut *mut c_char, *mut *mut c_char) -> c_int;
type Function = unsafe extern "C" fn();
type StartMain = unsafe extern "C" fn(
    unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) -> c_int,
    c_int,
    *mut *mut c_char,
    Option<Function>,
    Option<Function>,
    Option<Function>,
    *mut c_void,
) -> c_int;

/// For how long a thread has to hold its worker until it is learnt to be one that does.
const LEARNS: Duration = Duration::from_millis(50);

/// What a program ends with that can't be run so.
const REFUSED: c_int = 125;

static MAIN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// # Safety
///
/// - As for libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn __libc_start_main(
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    init: Option<Function>,
    fini: Option<Function>,
    linkers_fini: Option<Function>,
    stack_end: *mut c_void,
) -> c_int {
    MAIN.store(main as *mut c_void, Ordering::Relaxed);
    // Programs that were linked before glibc 2.34 bring their own `init`.
    let version = if init.is_some() {
        c"GLIBC_2.2.5"
    } else {
        c"GLIBC_2.34"
    };
    // SAFETY: libc's function of this name and type, with its caller's arguments.
    unsafe { next(version)(begin, argc, argv, init, fini, linkers_fini, stack_end) }
}

fn next(version: &CStr) -> StartMain {
    let name = c"__libc_start_main";
    // SAFETY: valid names; libc, which every such program has, has the function, of
    // this type.
    unsafe {
        let mut found = libc::dlvsym(libc::RTLD_NEXT, name.as_ptr(), version.as_ptr());
        if found.is_null() {
            found = libc::dlsym(libc::RTLD_NEXT, name.as_ptr());
        }
        transmute::<*mut c_void, StartMain>(found)
    }
}

/// The program's `main` and what it is called with.
#[derive(Clone, Copy)]
struct Program {
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    envp: *mut *mut c_char,
}

/// What libc calls as `main`.
unsafe extern "C" fn begin(argc: c_int, argv: *mut *mut c_char, envp: *mut *mut c_char) -> c_int {
    // SAFETY: `__libc_start_main` stored it.
    let main = unsafe { transmute::<*mut c_void, Main>(MAIN.load(Ordering::Relaxed)) };
    let program = Program {
        main,
        argc,
        argv,
        envp,
    };
    let settings = match Settings::find() {
        Ok(Some(settings)) => settings,
        // SAFETY: as libc would have called it.
        Ok(None) => return unsafe { main(argc, argv, envp) },
        Err(why) => return refuse(&why),
    };
    match run(settings, program) {
        // `main` has ended by `pthread_exit`, and all others after it.
        Ok(()) => 0,
        Err(why) => refuse(&why.to_string()),
    }
}

fn refuse(why: &str) -> c_int {
    eprintln!("crore: {why}");
    REFUSED
}

fn run(settings: Settings, mut program: Program) -> std::io::Result<()> {
    let mut builder = builder(&settings)?
        .threads_as_coroutines(true)
        // As a process does whose main thread has left.
        .drain(Duration::from_secs(u32::MAX.into()));
    // A program that computes for long is as it should be, unless somebody asks.
    if std::env::var_os("CRORE_WATCHDOG").is_none() {
        builder = builder.watchdog(settings.learn.is_some().then_some(LEARNS));
    }
    if let Some(path) = settings.learn {
        builder = builder.__learn_real(move |pattern| learnt::note(&path, pattern));
    }
    if let Some(bytes) = settings.stack {
        builder = builder.thread_stack_size(bytes);
    }
    if let Some(real) = settings.real {
        builder = builder.keep_real(move |start| real.matches_start(start));
    }
    let place = (&raw mut program).cast::<c_void>();
    let place = place.expose_provenance();
    let low = low_numbers();
    let runtime = builder.build()?;
    // Where it can't be (a process of a container that has this number, too) nobody asks.
    // Nor in a simulation, whose course it would change.
    let _inspected = (settings.inspect && settings.seed.is_none())
        .then(|| crore_inspect::serve(runtime.handle()));
    runtime.run(move || {
        // The workers are there.
        drop(low);
        let program = ptr::with_exposed_provenance_mut(place);
        // SAFETY: the routine reads its argument, which outlives it: it is joined.
        unsafe { crore::hook::__run_main_thread(main_thread, program, main_stack()) }
    })?
}

/// For a runtime in a simulation, or on so many workers.
fn builder(settings: &Settings) -> std::io::Result<crore::RuntimeBuilder> {
    match settings.seed {
        None => Ok(crore::Runtime::builder().workers(settings.workers)),
        #[cfg(feature = "sim")]
        Some(seed) => {
            let trace = settings.trace.as_ref().map(std::fs::File::create);
            Ok(crore::sim::__enter(seed, trace.transpose()?))
        }
        #[cfg(not(feature = "sim"))]
        Some(_) => {
            let _ = &settings.trace;
            Err(std::io::Error::other("this library runs no simulations"))
        }
    }
}

/// All low numbers of descriptors that are free, taken: the runtime's own are to be higher.
/// A program gets those then that it would have got by itself, and may duplicate onto
/// those that it knows to be free.
fn low_numbers() -> Vec<OwnedFd> {
    /// Shells have some of theirs from here on.
    const ENOUGH: RawFd = 256;
    let mut taken = Vec::new();
    // SAFETY: no pointers.
    let mut next = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    while (0..ENOUGH).contains(&next) {
        // SAFETY: made just now, and nobody else's.
        taken.push(unsafe { OwnedFd::from_raw_fd(next) });
        // SAFETY: no pointers.
        next = unsafe { libc::fcntl(taken[0].as_raw_fd(), libc::F_DUPFD_CLOEXEC, next) };
    }
    if next >= ENOUGH {
        // SAFETY: as above.
        taken.push(unsafe { OwnedFd::from_raw_fd(next) });
    }
    // Where numbers are few, the program needs them.
    if next < 0 {
        taken.clear();
    }
    taken
}

/// Bytes of `main`'s stack: as the kernel's would have, within reason.
fn main_stack() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a place of ours.
    unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut limit) };
    (limit.rlim_cur as usize).clamp(1 << 20, 64 << 20)
}

/// Calls `main`, and ends the process with what it returns.
unsafe extern "C-unwind" fn main_thread(program: *mut c_void) -> *mut c_void {
    // SAFETY: `run`'s, which waits.
    let program = unsafe { *program.cast::<Program>() };
    // SAFETY: as libc would have called it.
    unsafe {
        let status = (program.main)(program.argc, program.argv, program.envp);
        libc::exit(status)
    }
}
