//! A join packet without a task: somebody else brings the result.

use super::packet::{Closure, JoinRef, Packet, PacketRef, Work};
use super::{JoinError, alias};

/// Whoever has it owes a result to the join handle. Dropped without one, the
/// handle learns that the work was cancelled.
pub(crate) struct Promise<T> {
    /// Taken when the result is there.
    packet: Option<PacketRef>,
    _result: std::marker::PhantomData<fn(T)>,
}

// SAFETY: the promise only writes a `T` that its thread has, and touches the
// shared word by atomics; its other parts are the task's side's alone (I14).
unsafe impl<T: Send> Send for Promise<T> {}

/// A closure's type for a packet whose closure is never called.
type Never<T> = fn() -> T;

/// A promise, and the handle's side of it. Only a `public` one, whose handle
/// goes to the user, has an identity: an alias that never gets an address.
pub(crate) fn promise<T>(public: bool) -> (Promise<T>, JoinRef) {
    let never: Never<T> = || unreachable!("a promise has no task");
    let (header, join) = Closure(never).packet(public.then(alias::create), None);
    // SAFETY: a new packet's task side, ours alone.
    let packet = unsafe { PacketRef::from_slot(header.as_ptr()) };
    let promise = Promise {
        packet,
        _result: std::marker::PhantomData,
    };
    (promise, join)
}

impl<T> Promise<T> {
    fn packet(&self) -> &PacketRef {
        self.packet.as_ref().expect("taken at the end only")
    }

    /// Nobody can join any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        !self.packet().header().is_joinable()
    }

    /// The handle's `cancel` was called.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.packet()
            .header()
            .known()
            .is_some_and(alias::is_cancelled)
    }

    /// Keeps the promise.
    pub(crate) fn fulfil(mut self, result: Result<T, JoinError>) {
        self.settle(result);
    }

    fn settle(&mut self, result: Result<T, JoinError>) {
        let Some(packet) = self.packet.take() else {
            return;
        };
        packet.header().known().into_iter().for_each(alias::discard);
        // SAFETY: `promise` made a packet of these types, whose stage is the
        // task's side's before DONE (I14). A function pointer needs no drop, so
        // the stage counts as empty, and only this fills it.
        unsafe { Packet::<Never<T>, T>::stage::<Result<T, JoinError>>(packet.0).write(result) };
        packet.complete();
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.settle(Err(JoinError::cancelled()));
    }
}
