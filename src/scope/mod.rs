//! Scoped coroutines: children that may borrow from their parent's frames.
//!
//! Why it is sound, point by point:
//!
//! - A child's closure, and with it every borrow, is gone before the child's
//!   task cell is done: it is consumed by the run, or dropped by the code that
//!   ends an unstarted child. So is the result of a child that no handle can
//!   join, since results live in a cell of the scope's own.
//! - [`scope`] does not come back, by return or unwind, before the task cell
//!   of each child is done. Its wait can't be cancelled; a parent that is
//!   cancelled passes that on to its children, and waits.
//! - An abandoned child (see `sched/cancel.rs`) has a task cell that is done
//!   while its closure is not: `alive` tells. Its frames may own a scope of its
//!   own whose children still borrow from ours, so the parent is abandoned too.
//! - A shared coroutine's frames move away while it is parked: refused.

mod child;
#[cfg(all(test, shuttle))]
mod shuttle_tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

pub use child::ScopedJoinHandle;

use crate::runtime::join_handle::{CoroutineId, JoinHandle};
use crate::runtime::spawn_builder::Builder;
use crate::sched::{CurrentTask, coroutine};
use crate::shim::Lock;
use crate::sys::report::abort_on_unwind;
use crate::task::{Coroutine, JoinError};
use crate::util::ignore_panic;

/// Where coroutines that borrow are spawned; see [`scope`].
///
/// ```
/// crore::run(|| {
///     let mut count = 0;
///     crore::scope(|scope| {
///         scope.spawn(|| count += 1); // borrows; has ended when `scope` returns
///     });
///     assert_eq!(count, 1);
/// }).unwrap();
/// ```
pub struct Scope<'scope, 'env: 'scope> {
    shared: Shared,
    // Invariant in both, as std's: 'scope must not shrink, or a child could
    // borrow what the scope's closure owns.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// What the parent and all children share, in the parent's frame.
struct Shared {
    children: Lock<Children>,
    /// A child panicked and was not joined.
    panicked: AtomicBool,
}

struct Children {
    /// Those that may still run, and some that have ended.
    /// By number, in the order of their spawning.
    handles: BTreeMap<u64, JoinHandle<()>>,
    /// The number of the last one.
    spawned: u64,
    /// Those whose closure is not gone yet.
    alive: usize,
    /// Look for ended ones when there are so many handles.
    prune_at: usize,
    /// The parent wants to end: later children are cancelled at once.
    cancelled: bool,
}

/// Fewer handles than this are not worth looking through.
const FEW: usize = 64;

/// Runs `f`, in which coroutines may be spawned that borrow from this one's
/// locals, after [`std::thread::scope`]. Returns when all of them have ended.
///
/// - A child that panicked and was not joined by hand makes `scope` panic when
///   all have ended.
/// - When `f` unwinds, by a panic or a cancellation, all children are
///   cancelled; so they are when this coroutine is cancelled, or the
///   [`timeout`](crate::timeout) around this ends, while it waits for them. In
///   any case `scope` waits until the last has ended.
/// - A child that ignores its cancellation until it is abandoned takes its
///   parent with it: the borrows never end, so neither can `scope`.
///
/// # Panics
///
/// Outside a coroutine; in a coroutine with a
/// [shared stack](crate::spawn_shared), whose frames move; in a destructor
/// while unwinding. If `f` panics, with its payload; if a child panicked.
///
/// # Examples
///
/// ```
/// crore::run(|| {
///     let words = vec!["one", "two", "three"];
///     let mut longest = 0;
///     crore::scope(|s| {
///         let lengths: Vec<_> = words.iter().map(|word| s.spawn(|| word.len())).collect();
///         s.spawn(|| println!("{words:?}")); // joined by the scope
///         longest = lengths.into_iter().map(|each| each.join().unwrap()).max().unwrap();
///     });
///     assert_eq!(longest, 5);
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// What the scope's closure owns does not live long enough:
///
/// ```compile_fail,E0373
/// crore::scope(|s| {
///     let inside = 3;
///     s.spawn(|| println!("{inside}"));
/// });
/// ```
///
/// A handle does not leave its scope:
///
/// ```compile_fail,E0521
/// let mut handle = None;
/// crore::scope(|s| handle = Some(s.spawn(|| 1)));
/// ```
///
/// What a child borrows can't be changed before the scope has ended:
///
/// ```compile_fail,E0506
/// let mut count = 0;
/// crore::scope(|s| {
///     s.spawn(|| println!("{count}"));
///     count = 1;
/// });
/// ```
///
/// What must stay on its thread needs [`Scope::spawn_local`]:
///
/// ```compile_fail,E0277
/// let count = std::cell::Cell::new(0);
/// crore::scope(|s| {
///     s.spawn(|| count.set(1));
/// });
/// ```
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let cx = may_scope();
    let scope = Scope {
        shared: Shared::new(),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    // From here to the end of the wait nothing may unwind past the children.
    let interrupted = abort_on_unwind("a scope unwound past its coroutines", || {
        if result.is_err() {
            scope.shared.cancel();
        }
        scope.shared.wait_for_all(cx)
    });
    match result {
        Err(payload) => cx.unwind_on(payload),
        Ok(_) if scope.shared.panicked.load(Ordering::Relaxed) => {
            panic!("a scoped coroutine panicked")
        }
        Ok(value) => {
            if interrupted {
                cx.unwind_or_return();
            }
            value
        }
    }
}

fn may_scope() -> CurrentTask {
    let Some(cx) = CurrentTask::running() else {
        panic!(
            "crore::scope was called outside a coroutine: call it inside crore::run(|| …), or use \
             std::thread::scope"
        );
    };
    assert!(
        !cx.is_shared(),
        "crore::scope was called in a coroutine with a shared stack: its frames move away while \
         it is parked, so nobody can borrow from them"
    );
    assert!(
        !std::thread::panicking(),
        "crore::scope was called by a destructor while unwinding: a coroutine can't park then"
    );
    cx
}

impl Shared {
    fn new() -> Self {
        Self {
            children: Lock::new(Children {
                handles: BTreeMap::new(),
                spawned: 0,
                alive: 0,
                prune_at: FEW,
                cancelled: false,
            }),
            panicked: AtomicBool::new(false),
        }
    }

    /// A child is about to be spawned.
    fn expect_child(&self) {
        self.children.lock().alive += 1;
    }

    /// A child's closure is gone.
    fn closure_gone(&self) {
        self.children.lock().alive -= 1;
    }

    /// A child was spawned: which one it is.
    fn add(&self, handle: JoinHandle<()>) -> (ChildKey, Coroutine) {
        let coroutine = handle.coroutine();
        let mut ended = Vec::new();
        let mut children = self.children.lock();
        if children.handles.len() >= children.prune_at {
            children.prune(&mut ended);
        }
        let unwanted = children.cancelled;
        children.spawned += 1;
        let key = ChildKey(children.spawned);
        children.handles.insert(key.0, handle);
        drop(children);
        ended.into_iter().for_each(|ended| self.note(ended.join()));
        if unwanted {
            coroutine.cancel();
        }
        (key, coroutine)
    }

    /// Cancels all children, those to come too.
    fn cancel(&self) {
        let mut children = self.children.lock();
        children.cancelled = true;
        let ids: Vec<_> = children.handles.values().map(JoinHandle::id).collect();
        drop(children);
        ids.into_iter().for_each(CoroutineId::cancel);
    }

    /// Cancels one child, if it still runs.
    fn cancel_one(&self, key: ChildKey) {
        let children = self.children.lock();
        let id = children.handles.get(&key.0).map(JoinHandle::id);
        drop(children);
        id.into_iter().for_each(CoroutineId::cancel);
    }

    /// Waits until every child's task cell is done, whatever happens; whether it
    /// was asked to end meanwhile.
    fn wait_for_all(&self, cx: CurrentTask) -> bool {
        let waker = cx.waker();
        let mut context = Context::from_waker(&waker);
        let mut interrupted = false;
        loop {
            match self.poll_one(&mut context) {
                None => break,
                Some(Poll::Ready(result)) => self.note(result),
                Some(Poll::Pending) if interrupted => cx.park_regardless(),
                Some(Poll::Pending) if cx.is_ending() => {
                    interrupted = true;
                    self.cancel();
                }
                Some(Poll::Pending) => cx.park(),
            }
        }
        if self.children.lock().alive > 0 {
            cx.abandon();
        }
        interrupted
    }

    /// Asks one of the children whether it has ended; `None` if there is none.
    fn poll_one(&self, context: &mut Context<'_>) -> Option<Poll<Result<(), JoinError>>> {
        let mut children = self.children.lock();
        let mut first = children.handles.first_entry()?;
        // No foreign code: the only waker here is the parent's.
        let polled = Pin::new(first.get_mut()).poll(context);
        if polled.is_ready() {
            first.remove();
        }
        Some(polled)
    }

    /// A child's end: the result's destructor may have panicked.
    fn note(&self, result: Result<(), JoinError>) {
        if let Err(error) = result {
            self.panicked.fetch_or(error.is_panic(), Ordering::Relaxed);
            // A payload's destructor is foreign code.
            ignore_panic(|| drop(error));
        }
    }
}

impl Children {
    /// Moves the ended out, so that a scope that spawns for ever stays small.
    fn prune(&mut self, ended: &mut Vec<JoinHandle<()>>) {
        let all = mem::take(&mut self.handles).into_iter();
        let (gone, live): (BTreeMap<_, _>, _) = all.partition(|(_, handle)| handle.is_finished());
        self.handles = live;
        ended.extend(gone.into_values());
        self.prune_at = (2 * self.handles.len()).max(FEW);
    }
}

/// Tells a child of one scope from all others.
#[derive(Clone, Copy)]
struct ChildKey(u64);

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Spawns a child, after [`std::thread::Scope::spawn`]. With several
    /// workers any of them may run it.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn); [`Builder::spawn_scoped`] returns an error
    /// instead.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let mut parts = [1, 2, 3];
    ///     crore::scope(|scope| {
    ///         for part in &mut parts {
    ///             scope.spawn(move || *part *= 2);
    ///         }
    ///     });
    ///     assert_eq!(parts, [2, 4, 6]);
    /// }).unwrap();
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        Builder::new()
            .spawn_scoped(self, f)
            .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
    }

    /// Spawns a child that stays on the worker of the one that calls this, so
    /// that it may borrow what must not change its thread.
    ///
    /// # Panics
    ///
    /// As [`Scope::spawn`].
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let count = std::cell::Cell::new(0);
    ///     crore::scope(|s| {
    ///         for _ in 0..10 {
    ///             s.spawn_local(|| count.set(count.get() + 1));
    ///         }
    ///     });
    ///     assert_eq!(count.get(), 10);
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_local<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        Builder::new()
            .spawn_local_scoped(self, f)
            .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alive = self.shared.children.lock().alive;
        f.debug_struct("Scope").field("alive", &alive).finish()
    }
}

impl Builder {
    /// As [`Scope::spawn`], with this builder's settings.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let text = String::from("lent");
    ///     crore::scope(|scope| {
    ///         let child = crore::Builder::new().name("child".into()).spawn_scoped(scope, || text.len()).unwrap();
    ///         assert_eq!(child.join().unwrap(), 4);
    ///     });
    /// }).unwrap();
    /// ```
    #[track_caller]
    pub fn spawn_scoped<'scope, F, T>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let worker = self.here()?;
        let (child, handle) = child::prepare(&scope.shared, f);
        let join = worker.spawn(coroutine(move || child.run()), self.plan())?;
        let (key, coroutine) = scope.shared.add(JoinHandle::new(join));
        Ok(handle.spawned(key, coroutine))
    }

    /// As [`Scope::spawn_local`], with this builder's settings.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_local_scoped<'scope, F, T>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let (plan, worker) = self.local()?;
        let (child, handle) = child::prepare(&scope.shared, f);
        let join = worker.spawn_local(coroutine(move || child.run()), plan)?;
        let (key, coroutine) = scope.shared.add(JoinHandle::new(join));
        Ok(handle.spawned(key, coroutine))
    }
}
