//! Escapes: system calls of a simulation's programs that passed the hooks, so that what
//! they said is not the seed's. Each place is found once, with its calls and their count.
//!
//! They are seen by a signal's handler (`sys/dispatch.rs`), which may have interrupted an
//! allocator: it fills room that was made before.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::c_long;
use std::fmt;
use std::io;
use std::sync::{Mutex, Once};
use std::time::Duration;

#[cfg(target_arch = "x86_64")]
use super::harmless::is_harmless;
use super::world::{Known, NOBODY, Simulated};
use crate::sys::call_names::call_name;
use crate::sys::symbols::Symbols;
use crate::sys::unwind::{RegisterSet, Unwinder};

/// What is done about a system call that passes the hooks: one that a program makes by
/// itself, or a function of libc's that crore does not hook.
///
/// ```
/// use crore::sim::{Escapes, Sim};
///
/// // As if it were on the machine outside: the simulation does not know what it says.
/// unsafe extern "C" {
///     fn getloadavg(places: *mut f64, count: i32) -> i32;
/// }
/// let mut loads = [0.0; 3];
/// let report = Sim::new(1)
///     .escapes(Escapes::Named) // on standard error, and in the report
///     // SAFETY: three places.
///     .client("one", move || drop(unsafe { getloadavg(loads.as_mut_ptr(), 3) }))
///     .run();
/// for escape in report.escapes() {
///     assert!(escape.count() >= 1 && escape.node() == Some("one"));
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escapes {
    /// Nobody looks.
    Ignored,
    /// Each place is said once on standard error, with its backtrace; and stands in the
    /// report and the trace.
    #[default]
    Named,
    /// The run fails, too, with the first as its panic.
    Denied,
}

/// A place from which system calls passed the hooks: see [`Escapes`].
#[derive(Clone, Debug)]
pub struct Escape {
    number: c_long,
    count: u64,
    first: Duration,
    node: Option<String>,
    coroutine: usize,
    addresses: Vec<usize>,
}

impl Escape {
    /// The call's name, as in its manual page.
    pub fn call(&self) -> &'static str {
        call_name(self.number).unwrap_or("unknown")
    }

    /// The call's number.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// How often it was made there.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// When it was first made, by the simulation's clock.
    pub fn first(&self) -> Duration {
        self.first
    }

    /// The machine whose program first made it.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// The addresses of the calls that lead there, the innermost first.
    pub fn addresses(&self) -> &[usize] {
        &self.addresses
    }

    /// Without its place.
    pub(super) fn in_short(&self) -> String {
        let times = match self.count {
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        let (call, number, first) = (self.call(), self.number, self.first.as_secs_f64());
        let who = self.node.as_deref().unwrap_or("nobody");
        format!(
            "the system call {call} ({number}) passed the hooks {times}, first at t={first:.6} s, \
             of {who} #{}",
            self.coroutine
        )
    }

    /// What a child process writes to its parent, which has the same code at the same
    /// addresses. (Names of functions are not a child's to find: the parent may have been in
    /// the midst of that when it was forked.)
    pub(super) fn to_line(&self, seed: u64) -> String {
        let addresses = self.addresses.iter().map(|word| format!(" {word:x}"));
        format!(
            "{LINE}{seed} {} {} {} {} {}{}\n",
            self.number,
            self.count,
            self.first.as_nanos(),
            self.coroutine,
            addresses.len(),
            addresses.collect::<String>() + " " + self.node.as_deref().unwrap_or_default()
        )
    }

    /// What a line says that [`Self::to_line`] has made, and of which seed.
    pub(super) fn from_line(line: &str) -> Option<(u64, Self)> {
        let mut words = line.strip_prefix(LINE)?.strip_suffix('\n')?.split(' ');
        let seed = words.next()?.parse().ok()?;
        let number = words.next()?.parse().ok()?;
        let count = words.next()?.parse().ok()?;
        let first = Duration::from_nanos(words.next()?.parse().ok()?);
        let coroutine = words.next()?.parse().ok()?;
        let frames = words.next()?.parse().ok()?;
        let addresses = words.by_ref().take(frames);
        let addresses = addresses.map(|word| usize::from_str_radix(word, 16).ok());
        let addresses = addresses.collect::<Option<_>>()?;
        let node = words.collect::<Vec<_>>().join(" ");
        let escape = Self {
            number,
            count,
            first,
            node: (!node.is_empty()).then_some(node),
            coroutine,
            addresses,
        };
        Some((seed, escape))
    }
}

/// What a line begins with that no panic does.
const LINE: &str = "\u{1}escape ";

/// Says each on standard error whose place was not said before.
pub(super) fn tell_escapes(seed: u64, escapes: &[Escape]) {
    static TOLD: Mutex<BTreeSet<(c_long, Vec<usize>)>> = Mutex::new(BTreeSet::new());
    for escape in escapes {
        let place = (escape.number, escape.addresses.clone());
        if TOLD.lock().unwrap().insert(place) {
            eprintln!("crore: in the simulation of seed {seed} {escape}");
        }
    }
}

/// Says once that nobody looks for escapes, if so.
pub(super) fn say_if_unwatched() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(why) = watch() {
            eprintln!("crore: system calls that pass the hooks are not looked for: {why}");
        }
    });
}

/// With a backtrace.
impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, at", self.in_short())?;
        write!(f, "{}", Symbols(&self.addresses))
    }
}

/// Frames that are kept of each.
const FRAMES: usize = 24;

/// Places that are kept.
const PLACES: usize = 128;

struct CaughtPlace {
    number: c_long,
    count: u64,
    now: u64,
    known: Known,
    frames: [usize; FRAMES],
    len: usize,
}

impl CaughtPlace {
    fn frames(&self) -> &[usize] {
        &self.frames[..self.len]
    }
}

/// Those of a run.
pub(super) struct CaughtEscapes {
    /// Never grows.
    places: RefCell<Vec<CaughtPlace>>,
    unwinder: RefCell<Unwinder>,
    /// A handler may interrupt another.
    busy: Cell<bool>,
    /// How many of them are in the trace.
    traced: Cell<usize>,
}

impl CaughtEscapes {
    pub(super) fn new() -> Self {
        Self {
            places: RefCell::new(Vec::with_capacity(PLACES)),
            unwinder: RefCell::new(Unwinder::new()),
            busy: Cell::new(false),
            traced: Cell::new(0),
        }
    }

    /// Takes no memory.
    fn add(&self, number: c_long, now: u64, known: Known, registers: &libc::ucontext_t) {
        let mut from = RegisterSet::default();
        from.fill(registers);
        let mut place = CaughtPlace {
            number,
            count: 1,
            now,
            known,
            frames: [0; FRAMES],
            len: 0,
        };
        self.unwinder.borrow_mut().walk(from, |call, _| {
            // The instruction is before where it goes on.
            let call = call - usize::from(place.len == 0);
            place.frames[place.len] = call;
            place.len += 1;
            place.len < FRAMES
        });
        let mut places = self.places.borrow_mut();
        let same = |one: &&mut CaughtPlace| one.number == number && one.frames() == place.frames();
        if let Some(one) = places.iter_mut().find(same) {
            one.count += 1;
        } else if places.len() < PLACES {
            places.push(place);
        }
    }
}

/// Has this thread's calls told to its world, until what is returned is dropped.
///
/// # Errors
///
/// The system can't.
#[cfg(target_arch = "x86_64")]
pub(super) fn watch() -> io::Result<Box<dyn Any>> {
    Ok(Box::new(crate::sys::dispatch::Watched::begin()?))
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn watch() -> io::Result<Box<dyn Any>> {
    let why = "only x86-64 has Syscall User Dispatch";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

#[cfg(not(target_arch = "x86_64"))]
fn is_harmless(_: c_long, _: [usize; 6]) -> bool {
    true
}

impl Simulated {
    /// See [`World::passed`](crate::sys::simulated::World::passed).
    pub(super) fn catch(&self, number: c_long, args: [usize; 6], registers: &libc::ucontext_t) {
        if self.is_inside() || is_harmless(number, args) {
            return;
        }
        let (Some(escapes), Some(known)) = (&self.escapes, self.here()) else {
            return;
        };
        if !escapes.busy.replace(true) {
            self.within(|| escapes.add(number, self.now(), known, registers));
            escapes.busy.set(false);
        }
    }

    /// Puts what was caught since into the trace.
    pub(super) fn trace_escapes(&self) {
        let Some(escapes) = &self.escapes else { return };
        let places = escapes.places.borrow();
        if escapes.traced.get() == places.len() {
            return;
        }
        let mut trace = self.trace.borrow_mut();
        self.within(|| {
            for place in &places[escapes.traced.replace(places.len())..] {
                let who = format!("{} #{}", self.name_of(place.known), place.known.serial);
                let call = call_name(place.number).unwrap_or("unknown");
                let what = format_args!("{call} ({}) passes the hooks", place.number);
                trace.say(place.now, &who, what);
            }
        });
    }

    fn name_of(&self, known: Known) -> &str {
        match known.node {
            NOBODY => "nobody",
            node => self.name(node as usize),
        }
    }

    /// All of this run.
    pub(super) fn caught_escapes(&self) -> Vec<Escape> {
        let Some(escapes) = &self.escapes else {
            return Vec::new();
        };
        let places = escapes.places.borrow();
        let told = places.iter().map(|place| Escape {
            number: place.number,
            count: place.count,
            first: Duration::from_nanos(place.now),
            node: (place.known.node != NOBODY).then(|| self.name_of(place.known).to_owned()),
            coroutine: place.known.serial,
            addresses: place.frames().to_vec(),
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_tells_is_what_it_has_found() {
        for node in [None, Some("a node of words".to_owned())] {
            let escape = Escape {
                number: libc::SYS_read,
                count: 3,
                first: Duration::from_nanos(1_234_567),
                node,
                coroutine: 9,
                addresses: vec![0x1234, usize::MAX],
            };
            let (seed, told) = Escape::from_line(&escape.to_line(17)).unwrap();
            assert_eq!(seed, 17);
            assert_eq!(format!("{told:?}"), format!("{escape:?}"));
        }
        assert!(Escape::from_line("index out of bounds").is_none());
    }
}
