//! What the command says to the library, by way of the environment.

use std::ffi::{CStr, CString, c_void};
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::{env, ptr};

use crate::learnt;

/// Set: the program is to run under crore.
const RUN: &str = "CRORE_RUN";
const WORKERS: &str = "CRORE_WORKERS";
const STACK: &str = "CRORE_STACK";
const REAL: &str = "CRORE_REAL";
/// A file with more of them, a line each, which grows.
const LEARN: &str = "CRORE_LEARN";
/// `0`: `crore dump` and its like find nothing.
const INSPECT: &str = "CRORE_INSPECT";
/// The seed of the simulation that the program is to run in.
const SIM: &str = "CRORE_SIM";
/// Where what happens there is written.
const SIM_TRACE: &str = "CRORE_SIM_TRACE_FILE";
/// Programs that this one starts run by themselves.
const ONLY: &str = "CRORE_ONLY";

/// The settings of a run.
pub(crate) struct Settings {
    pub(crate) workers: usize,
    /// Bytes of the stacks of threads that do not say.
    pub(crate) stack: Option<usize>,
    /// Which start routines' threads stay the kernel's.
    pub(crate) real: Option<Pattern>,
    /// Where those are noted that had better stay the kernel's.
    pub(crate) learn: Option<PathBuf>,
    /// Whether the command may look into the program.
    pub(crate) inspect: bool,
    /// Whether it is to run in a simulation: by which seed.
    pub(crate) seed: Option<u64>,
    pub(crate) trace: Option<PathBuf>,
}

impl Settings {
    /// Those of this process; none: it runs by itself.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in words.
    pub(crate) fn find() -> Result<Option<Self>, String> {
        if env::var_os(RUN).is_none() {
            return Ok(None);
        }
        let number = |name: &str| match env::var(name) {
            Err(_) => Ok(None),
            Ok(text) => match text.parse() {
                Ok(number @ 1..) => Ok(Some(number)),
                _ => Err(format!("{name}={text} is no number")),
            },
        };
        let learn = env::var_os(LEARN).filter(|path| !path.is_empty());
        let learn = learn.map(PathBuf::from);
        let mut real: Vec<_> = env::var(REAL).into_iter().collect();
        if let Some(path) = &learn {
            real.extend(learnt::read(path).map_err(|error| format!("{LEARN}: {error}"))?);
        }
        real.retain(|text| !text.is_empty());
        let real = (!real.is_empty()).then(|| real.join("|"));
        let settings = Self {
            workers: number(WORKERS)?.unwrap_or(1),
            stack: number(STACK)?,
            real: real.map(|text| Pattern::new(&text)).transpose()?,
            learn,
            inspect: env::var_os(INSPECT).is_none_or(|value| value != "0"),
            seed: match env::var(SIM) {
                Ok(text) => Some(
                    text.parse()
                        .map_err(|_| format!("{SIM}={text} is no number"))?,
                ),
                Err(_) => None,
            },
            trace: env::var_os(SIM_TRACE).map(PathBuf::from),
        };
        if env::var_os(ONLY).is_some() {
            forget();
        }
        Ok(Some(settings))
    }
}

/// Takes crore out of the environment that children inherit.
fn forget() {
    let others = env::var("LD_PRELOAD").unwrap_or_default();
    let mut others: Vec<_> = others.split([':', ' ']).collect();
    others.retain(|path| !path.is_empty() && !path.contains("libcrore"));
    // SAFETY: before `main`: the program has no other thread that could read it.
    unsafe {
        match others.is_empty() {
            true => env::remove_var("LD_PRELOAD"),
            false => env::set_var("LD_PRELOAD", others.join(":")),
        }
        for name in [
            RUN, WORKERS, STACK, REAL, LEARN, INSPECT, SIM, SIM_TRACE, ONLY,
        ] {
            env::remove_var(name);
        }
    }
}

/// An extended regular expression of POSIX, as libc matches it.
pub(crate) struct Pattern(Box<libc::regex_t>);

// SAFETY: compiled once, and only read by `regexec`, which may be called by many.
unsafe impl Send for Pattern {}
// SAFETY: as above.
unsafe impl Sync for Pattern {}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        let wrong = || format!("{REAL}={text} is no regular expression");
        let pattern = CString::new(text).map_err(|_| wrong())?;
        let mut made = Box::new(MaybeUninit::<libc::regex_t>::zeroed());
        let flags = libc::REG_EXTENDED | libc::REG_NOSUB;
        // SAFETY: a place of ours, a string.
        match unsafe { libc::regcomp(made.as_mut_ptr(), pattern.as_ptr(), flags) } {
            // SAFETY: `regcomp` has made it.
            0 => Ok(Self(unsafe { made.assume_init() })),
            _ => Err(wrong()),
        }
    }

    fn matches(&self, text: &CStr) -> bool {
        // SAFETY: compiled, a string, no places for parts.
        unsafe { libc::regexec(&*self.0, text.as_ptr(), 0, ptr::null_mut(), 0) == 0 }
    }

    /// Whether it matches the start routine, as `library:symbol` or `library:+0xOFFSET`.
    pub(crate) fn matches_start(&self, start: *const c_void) -> bool {
        let routine = crore::hook::__start_routine_name(start);
        CString::new(routine).is_ok_and(|routine| self.matches(&routine))
    }
}
