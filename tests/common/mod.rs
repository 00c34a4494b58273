//! What several promises need to be tested: a child process to die in the test's
//! place, limits, coroutines of each kind.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod left_over;

use std::fmt::Display;
use std::process::{Command, Output};
use std::{env, process};

const CHILD: &str = "CRORE_TEST_CHILD";

/// The program and arguments, divided by spaces, that run the test binary
/// where the kernel can't: an emulator's.
const RUNNER: &str = "CRORE_TEST_RUNNER";

/// The C compiler whose libraries this test can load: the one that links Rust programs, or,
/// under an emulator, that of the environment.
pub(crate) fn c_compiler() -> Command {
    Command::new(env::var_os("CRORE_TEST_CC").unwrap_or_else(|| "cc".into()))
}

/// Says that the test is skipped that runs here, or the part of it that the system can't
/// run (`scripts/kernels.sh` and `scripts/glibc.sh` list these).
fn skipped(why: impl Display) {
    let thread = std::thread::current();
    eprintln!("skipped: {}: {why}", thread.name().unwrap_or("a test"));
}

/// Whether the kernel has the system call, or lets it through; else says that the test is
/// skipped.
pub(crate) fn kernel_has(call: libc::c_long) -> bool {
    let none = usize::MAX;
    // SAFETY: no call that is asked for does anything with such numbers and places.
    let answer = unsafe { libc::syscall(call, none, none, none, none, none, none) };
    let error = std::io::Error::last_os_error().raw_os_error();
    let missing = answer < 0 && matches!(error, Some(libc::ENOSYS | libc::EPERM));
    if missing {
        skipped(format_args!("the kernel lacks system call {call}"));
    }
    !missing
}

/// Whether glibc is 2.`minor` or later; else says that the test is skipped, for what it does.
#[cfg(target_env = "gnu")]
pub(crate) fn glibc_is(minor: u32, before: &str) -> bool {
    let ours = glibc_minor();
    if ours < minor {
        skipped(format_args!("glibc 2.{ours} {before}"));
    }
    ours >= minor
}

/// The version of glibc, behind `2.`.
#[cfg(target_env = "gnu")]
pub(crate) fn glibc_minor() -> u32 {
    // SAFETY: it returns a string of libc's own.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    let minor = version.to_str().unwrap().split('.').nth(1);
    minor.unwrap().parse().unwrap()
}

/// Whether a process may have so many guarded stacks: where a guard is a mapping of its own,
/// `vm.max_map_count` is the limit. Says that the test is skipped, if not.
pub(crate) fn may_have_stacks(count: usize) -> bool {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let enough = limit.is_ok_and(|limit| {
        limit
            .trim()
            .parse()
            .is_ok_and(|limit: usize| limit > 2 * count)
    });
    if enough || has_light_guards() {
        return true;
    }
    skipped(format_args!(
        "{count} guards are more than vm.max_map_count allows"
    ));
    false
}

fn has_light_guards() -> bool {
    const MADV_GUARD_INSTALL: libc::c_int = 102;
    let (read, anonymous) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a mapping of our own, which ends here.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, read, anonymous, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        let has = libc::madvise(page, 4096, MADV_GUARD_INSTALL) == 0;
        libc::munmap(page, 4096);
        has
    }
}

/// Runs `body` in a child process: the test binary once more, with only the
/// test `name`, which comes here again.
pub(crate) fn in_child(name: &str, body: impl FnOnce()) -> Output {
    if env::var(CHILD).as_deref() == Ok(name) {
        body();
        process::exit(0);
    }
    let output = test_binary()
        .args([
            "--exact",
            &whole_name(name),
            "--nocapture",
            "--include-ignored",
        ])
        .env(CHILD, name)
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the test binary starts");
    // A child in which nothing happened ends well.
    let ran = output
        .stdout
        .windows(15)
        .all(|said| said != b"running 0 tests");
    assert!(ran, "there is no test {name}");
    output
}

/// The test binary once more, by way of the emulator if there is one.
fn test_binary() -> Command {
    let binary = env::current_exe().expect("a test binary");
    let runner = env::var(RUNNER).unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(program) = words.next() else {
        return Command::new(binary);
    };
    let mut command = Command::new(program);
    command.args(words).arg(binary);
    command
}

/// The test `name` as the test binary knows it: with the modules it is in.
pub(crate) fn whole_name(name: &str) -> String {
    let listed = test_binary()
        .args(["--list", "--format=terse", name])
        .output()
        .expect("the test binary starts");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let found: Vec<_> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|whole| *whole == name || whole.ends_with(&format!("::{name}")))
        .collect();
    assert_eq!(found.len(), 1, "tests named {name}: {found:?}");
    found[0].to_owned()
}

/// What the child wrote to standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `test` in a child, which ends well; what it wrote to standard error.
pub(crate) fn succeeds(name: &str, test: impl FnOnce()) -> String {
    let output = in_child(name, test);
    let text = stderr(&output);
    assert!(output.status.success(), "{:?} {text}", output.status);
    text
}

/// Sets a limit of this process; what it was.
pub(crate) fn set_limit(resource: libc::__rlimit_resource_t, now: u64) -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct is alive, and lowering a limit touches no memory.
    unsafe {
        assert_eq!(libc::getrlimit(resource, &mut limit), 0);
        let before = std::mem::replace(&mut limit.rlim_cur, now);
        assert_eq!(libc::setrlimit(resource, &limit), 0);
        before
    }
}

/// Kilobytes, of a line of `/proc/self/status`.
pub(crate) fn kilobytes(of: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(of)).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

/// The kinds of coroutine that have a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    OwnStack,
    SharedStack,
    /// On a stack of its own, with thread-locals of its own.
    OwnLocals,
}

/// Those that the system has; which it lacks is said.
pub(crate) fn kinds() -> impl Iterator<Item = Kind> {
    let shared = [Kind::OwnStack, Kind::SharedStack];
    let own = with_own_locals().any(|own| own);
    shared.into_iter().chain(own.then_some(Kind::OwnLocals))
}

/// Without thread-locals of one's own, and with them if the system has them, else says why not.
pub(crate) fn with_own_locals() -> impl Iterator<Item = bool> {
    [false, true]
        .into_iter()
        .take(1 + usize::from(has_own_locals()))
}

/// Whether there are thread-locals of one's own; else says that the test is skipped, and why.
pub(crate) fn has_own_locals() -> bool {
    let support = crore::local::own_thread_locals();
    if let Err(why) = &support {
        skipped(why);
    }
    support.is_ok()
}

impl Kind {
    /// A coroutine of this kind.
    pub(crate) fn spawn<T: Send + 'static>(
        self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> crore::JoinHandle<T> {
        let own = match self {
            // SAFETY: what tests run in every kind owns all that it uses (`'static`), and
            // lends nobody what lies in its frames while it waits.
            Self::SharedStack => return unsafe { crore::spawn_shared(f) },
            Self::OwnStack => false,
            Self::OwnLocals => true,
        };
        let builder = crore::Builder::new().own_thread_locals(own);
        builder.spawn(f).expect("the system has this kind")
    }
}
