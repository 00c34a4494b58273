//! Whether a suspended coroutine's frames are all that is alive on its stack.
//!
//! Below the stack pointer of a suspended coroutine nothing is alive, if its frames lie
//! one above the other, from there up to the carrier's own. They may not: a program can
//! make a second stack out of an array in a frame of the first, and switch to it. Then
//! what the coroutine has suspended in lies in the array, and the frames of who has
//! switched there lie below:
//!
//! ```text
//!  ┌─────────────────────────┐◄─── base: the carrier
//!  │ a frame                 │
//!  │  ┌───────────────────┐  │
//!  │  │ second stack      │  │
//!  │  │                   │◄─┼─── sp, suspended
//!  │  └───────────────────┘  │
//!  ├─────────────────────────┤
//!  │ who has switched there  │     alive, below sp
//!  └─────────────────────────┘
//! ```
//!
//! So the unwinder is asked for the frames. It needs some kilobytes itself, which it has
//! on the worker's stack: of the coroutine's a few hundred bytes are used. Where it does
//! not know a frame (code without tables) the walk ends early, and nothing is known.

use super::carrier::Carrier;
use crate::sys::unwind;

/// The frames that were seen on one stack.
struct FrameChain {
    limit: usize,
    base: usize,
    /// The outermost so far; 0 at first, when they are those of the walk itself.
    last: usize,
}

/// At most so far from the base the outermost frame ends: no array of a program's is there,
/// since the other base frames lie between.
const ROOT: usize = 64;

impl FrameChain {
    /// Whether to go on with the next.
    fn add(&mut self, frame: usize) -> bool {
        let is_here = (self.limit..=self.base).contains(&frame);
        if is_here && frame > self.last {
            self.last = frame;
        } else if is_here || self.last != 0 {
            // Down, or elsewhere.
            return false;
        }
        !self.is_whole()
    }

    fn is_whole(&self) -> bool {
        self.last != 0 && self.base - self.last < ROOT
    }
}

/// Bytes of stack that [`Carrier::is_one_chain`] may use.
pub(crate) const CHAIN_ROOM: usize = 2048;

impl Carrier {
    /// Whether the frames of the suspended coroutine lie one above the other up to the
    /// carrier's own, so that nothing below its stack pointer (and what a function may use
    /// below that, the red zone) is alive.
    ///
    /// # Safety
    ///
    /// - As [`Carrier::run_on_stack`], with room for [`CHAIN_ROOM`] bytes.
    pub(crate) unsafe fn is_one_chain(this: *mut Self) -> bool {
        // SAFETY: the caller's carrier, which is installed.
        let (limit, yielder) = unsafe { ((*this).limit(), Self::yielder(this)) };
        let mut chain = FrameChain {
            limit,
            base: this.addr(),
            last: 0,
        };
        let mut walk = || unwind::walk(|_, frame| chain.add(frame));
        // SAFETY: the closure runs on the carrier's stack; the rest is forwarded.
        unsafe { Self::run_on_stack(this, &mut || yielder.on_worker_stack(&mut walk)) };
        chain.is_whole()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::stack::StackBounds;
    use crate::switch::{EntryPoint, SwitchReason, suspend};
    use crate::sys::mem::Reserve;
    use std::cell::Cell;
    use std::num::NonZeroUsize;
    use std::ptr::{self, NonNull};

    thread_local!(static CARRIER: Cell<*mut Carrier> = const { Cell::new(ptr::null_mut()) });

    unsafe fn park_thrice(_: NonNull<EntryPoint>) {
        for _ in 0..3 {
            // SAFETY: the test stores the running carrier.
            unsafe { suspend(Carrier::yielder(CARRIER.get()), SwitchReason::Parked) };
        }
    }

    #[test]
    fn ordinary_frames_are_one_chain() {
        let reserve = Reserve::new(64 * 1024).unwrap();
        let low = reserve.base().expose_provenance();
        let bounds = StackBounds {
            base: NonZeroUsize::new(low + reserve.len()).unwrap(),
            limit: NonZeroUsize::new(low).unwrap(),
        };
        let entry = EntryPoint { run: park_thrice };
        // SAFETY: the memory is this test's, used on one thread.
        unsafe {
            let carrier = Carrier::install(bounds);
            CARRIER.set(carrier);
            Carrier::resume(carrier, &raw const entry);
            for _ in 0..2 {
                let sp = (*carrier).sp();
                assert!(Carrier::is_one_chain(carrier));
                assert!(sp - (*carrier).sp() < CHAIN_ROOM);
                assert_eq!(Carrier::resume(carrier, ptr::null()), SwitchReason::Parked);
            }
        }
    }

    fn is_whole(frames: &[usize]) -> bool {
        let (limit, base) = (0x1000, 0x9000);
        let mut chain = FrameChain {
            limit,
            base,
            last: 0,
        };
        frames.iter().all(|frame| chain.add(*frame));
        chain.is_whole()
    }

    #[test]
    fn frames_that_go_down_or_end_early_are_none() {
        // Those of the worker come first.
        assert!(is_whole(&[0xf0_0000, 0xf0_0100, 0x5000, 0x5100, 0x8ff0]));
        assert!(!is_whole(&[0xf0_0000, 0x5000, 0x5100]));
        assert!(!is_whole(&[0x5000, 0x5100, 0x4000, 0x8ff0]));
        assert!(!is_whole(&[0x5000, 0xa000, 0x8ff0]));
        assert!(!is_whole(&[0x5000, 0x5000, 0x8ff0]));
    }
}
