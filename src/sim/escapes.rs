//! Escapes: system calls of a simulation's programs that passed the hooks, so that what
//! they said is not the seed's. Each place is found once, with its calls and their count.

use std::collections::BTreeSet;
use std::ffi::c_long;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use crate::sys::call_names::call_name;
use crate::sys::symbols::Symbols;

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
///
/// ```
/// let report = crore::sim::Sim::new(1).client("one", || {}).run();
/// for escape in report.escapes() {
///     println!("{}, {} times: {escape}", escape.call(), escape.count());
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Escape {
    pub(super) number: c_long,
    pub(super) count: u64,
    pub(super) first: Duration,
    pub(super) node: Option<String>,
    pub(super) coroutine: usize,
    pub(super) addresses: Vec<usize>,
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

/// With a backtrace.
impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, at", self.in_short())?;
        write!(f, "{}", Symbols(&self.addresses))
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
