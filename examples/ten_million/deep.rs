//! What each coroutine does: calls several levels deep, every level holding
//! values and a reference to the level above, and parks at the bottom.
//!
//! ```text
//!   coroutine   Link { values, up: None }
//!   level       Link { values, up ------^ }
//!   bottom      up ------^                     park, look at all links, park …
//! ```
//!
//! A value that is lost, or of another coroutine, breaks the chain or the sum
//! over all coroutines. The references are the hard part: they are right only
//! if the frames come back to where they were.

use std::cell::Cell;

use crate::report::{COUNT, Relaxed};

/// The live values of one level.
struct Link<'a> {
    /// The second follows from the first, the first from the level above.
    /// Cells, so that the compiler does not know them: it reads them again
    /// after every call, from the frame.
    values: [Cell<u64>; 2],
    up: Option<&'a Link<'a>>,
}

/// What the coroutines have seen since the last [`Tally::take`].
#[derive(Default)]
pub(crate) struct Tally {
    seen: u64,
    sum: u64,
    wrong: u64,
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(3) };
    static ENDING: Cell<bool> = const { Cell::new(false) };
    static RETURNED: Cell<u64> = const { Cell::new(0) };
    static SEEN: Cell<u64> = const { Cell::new(0) };
    static SUM: Cell<u64> = const { Cell::new(0) };
    static WRONG: Cell<u64> = const { Cell::new(0) };
}

/// Sets how many levels each coroutine has, at least one.
pub(crate) fn begin(depth: u32) {
    DEPTH.set(depth.max(1));
    ENDING.set(false);
    RETURNED.set(0);
}

/// From now on the coroutines return when they are resumed.
pub(crate) fn end_all() {
    ENDING.set(true);
}

/// Coroutines that have returned through all levels.
pub(crate) fn returned() -> u64 {
    RETURNED.get()
}

impl Tally {
    pub(crate) fn take() -> Self {
        Self {
            seen: SEEN.take(),
            sum: SUM.take(),
            wrong: WRONG.take(),
        }
    }

    /// Whether each of `n` coroutines was seen once, all its values right.
    pub(crate) fn is_all(&self, n: usize) -> bool {
        let n = n as u64;
        let sum = (0..n).map(mix).fold(0, u64::wrapping_add);
        self.wrong == 0 && self.seen == n && self.sum == sum
    }
}

/// The top level.
#[inline(always)]
pub(crate) fn coroutine(number: u64) {
    let link = Link::new(number, None);
    below(&link, DEPTH.get());
    link.check();
    RETURNED.set(RETURNED.get() + 1);
}

#[inline(always)]
fn below(link: &Link<'_>, depth: u32) {
    if depth <= 2 {
        bottom(link);
    } else {
        level(link, depth - 1);
    }
}

#[inline(never)]
fn level(up: &Link<'_>, depth: u32) {
    let link = Link::new(below_of(up.first()), Some(up));
    below(&link, depth);
    link.check();
}

#[inline(never)]
fn bottom(up: &Link<'_>) {
    look(up);
    while !ENDING.get() {
        crore::park();
        look(up);
    }
}

/// Looks at the values of all levels.
#[inline(never)]
fn look(bottom: &Link<'_>) {
    let (mut link, mut right) = (bottom, true);
    while let Some(up) = link.up {
        right &= link.is_right() && link.first() == below_of(up.first());
        link = up;
    }
    let seen = SEEN.get() + 1;
    SEEN.set(seen);
    COUNT.store(seen, Relaxed);
    SUM.set(SUM.get().wrapping_add(mix(link.first())));
    WRONG.set(WRONG.get() + u64::from(!(right && link.is_right())));
}

impl<'a> Link<'a> {
    #[inline(always)]
    fn new(value: u64, up: Option<&'a Link<'a>>) -> Self {
        Self {
            values: [Cell::new(value), Cell::new(mix(value))],
            up,
        }
    }

    /// Looks at the values when the level is about to return. Not inlined,
    /// which would keep constants in registers across the park.
    #[inline(never)]
    fn check(&self) {
        WRONG.set(WRONG.get() + u64::from(!self.is_right()));
    }

    #[inline(always)]
    fn is_right(&self) -> bool {
        self.values[1].get() == mix(self.first())
    }

    #[inline(always)]
    fn first(&self) -> u64 {
        self.values[0].get()
    }
}

/// The first value of the level below one with this.
#[inline(always)]
fn below_of(value: u64) -> u64 {
    value.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(17)
}

#[inline(always)]
fn mix(value: u64) -> u64 {
    (value ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
