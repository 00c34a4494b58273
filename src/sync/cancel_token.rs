//! [`CancelToken`]: asks those to end, softly, that are bound to it or look at it.
//!
//! Tokens are a tree: a node knows its children weakly, and its parent strongly, so a
//! token in the middle that nobody holds passes on what comes from above. What is
//! bound to a token, or waits for it, stands in one queue of wakers; those of bound
//! coroutines make their calls look closely (`sched/asked.rs`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::channel::{Ready, ReadyCase};
use super::waiters::{WaiterKey, Waiters, WakeList};
use crate::block_on::{block_on, block_on_deadline};
use crate::sched::CurrentTask;
use crate::shim::Lock;

/// Asks coroutines to end, and lets them say goodbye: after `tokio_util`'s
/// `CancellationToken`.
///
/// [`JoinHandle::cancel`](crate::JoinHandle::cancel) is the hard way: everything that
/// waits fails from then on. A token is the soft one. A coroutine that runs
/// [bound](Self::bind) to it sees nothing of it until the token is cancelled. Then
///
/// - calls that *read* fail with `ECANCELED`, ready or not: `read`, `recv`, `accept`
///   and their like, hooked or of [`crore::io`](crate::io), and waits for a descriptor to
///   be readable. [`io::is_cancelled`](crate::io::is_cancelled) tells that error from
///   others;
/// - calls that *write*, `connect`, sleeps, locks, channels and joins go on as before, until
///   somebody cancels the coroutine: a [drain](crate::RuntimeBuilder::drain) or a
///   [shutdown](crate::Handle::shutdown) whose grace is over, say.
///
/// What is non-blocking by its user's choice, and event loops (`poll`, `epoll_wait`), are
/// left alone. A coroutine that ignores ten thousand such errors is cancelled.
///
/// Other code asks ([`is_cancelled`](Self::is_cancelled)) or waits
/// ([`wait`](Self::wait), [`cancelled`](Self::cancelled)) for a token. Clones are the
/// same token; a [`child`](Self::child) is cancelled with its parent, and not the other
/// way round. A token is cancelled once and for all; to do it again changes nothing.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use crore::CancelToken;
///
/// crore::run(|| {
///     # #[cfg(not(feature = "hook"))] return Ok(());
///     let server = CancelToken::new();
///     let (mut stream, mut client) = UnixStream::pair()?;
///     let connection = server.child();
///     crore::spawn(move || connection.bind(|| {
///         let mut buffer = [0; 64];
///         match stream.read(&mut buffer) { // waits for a request
///             Err(error) if crore::io::is_cancelled(&error) => stream.write_all(b"goodbye"),
///             other => other.map(drop),
///         }
///     }));
///     crore::yield_now();
///     server.cancel();
///     let mut said = String::new();
///     client.read_to_string(&mut said)?;
///     assert_eq!(said, "goodbye");
///     std::io::Result::Ok(())
/// })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct CancelToken(Arc<TokenNode>);

struct TokenNode {
    /// Set under the lock, and never cleared.
    cancelled: Arc<AtomicBool>,
    state: Lock<TokenState>,
    parent: Option<Parent>,
}

struct TokenState {
    waiters: Waiters<()>,
    /// Empty for good once it is cancelled.
    children: Slab<Weak<TokenNode>>,
}

/// Where a node stands among its parent's children.
struct Parent {
    node: Arc<TokenNode>,
    key: usize,
}

impl CancelToken {
    /// A token without a parent.
    pub fn new() -> Self {
        Self(Arc::new(TokenNode::new(None)))
    }

    /// A token that is cancelled with this one, and may be cancelled alone.
    ///
    /// ```
    /// use crore::CancelToken;
    /// let (parent, other) = (CancelToken::new(), CancelToken::new());
    /// let (one, two) = (parent.child(), parent.child());
    /// one.cancel();
    /// assert!(!parent.is_cancelled() && !two.is_cancelled());
    /// parent.cancel();
    /// assert!(two.is_cancelled() && parent.child().is_cancelled() && !other.is_cancelled());
    /// ```
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Self(Arc::new_cyclic(|child| {
            let key = self.0.state.lock().children.insert(Weak::clone(child));
            let node = Arc::clone(&self.0);
            TokenNode::new(Some(Parent { node, key }))
        }));
        // Who cancelled the parent before the child was complete has not seen it. Under
        // the lock: who takes it later does.
        let state = self.0.state.lock();
        let cancelled = self.is_cancelled();
        drop(state);
        if cancelled {
            child.cancel();
        }
        child
    }

    /// Cancels this token and all below it: wakes who waits for them, and ends the
    /// reads of what is bound to them.
    pub fn cancel(&self) {
        let mut next = vec![Arc::clone(&self.0)];
        // In a loop: a tree may be deep, and a coroutine's stack is not.
        while let Some(node) = next.pop() {
            let children = node.cancel();
            next.extend(
                children
                    .into_iter()
                    .filter_map(|(_, child)| child.upgrade()),
            );
        }
    }

    /// Whether [`cancel`](Self::cancel) was called, here or above.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Runs `f`, whose reads fail once the token is cancelled, as the
    /// [type](Self) says. May be nested: then each of the tokens around a read ends it.
    /// Coroutines that `f` spawns are not bound.
    ///
    /// # Panics
    ///
    /// Outside a coroutine: a plain thread's calls can't be ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use crore::CancelToken;
    ///
    /// crore::run(|| {
    ///     # #[cfg(not(feature = "hook"))] return Ok(());
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let token = CancelToken::new();
    ///     let accepting = token.clone();
    ///     let acceptor = crore::spawn(move || accepting.bind(|| listener.accept()));
    ///     crore::yield_now();
    ///     token.cancel();
    ///     assert!(crore::io::is_cancelled(&acceptor.join().unwrap().unwrap_err()));
    ///     std::io::Result::Ok(())
    /// })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind<T>(&self, f: impl FnOnce() -> T) -> T {
        let Some(cx) = CurrentTask::running() else {
            outside();
        };
        let _bound = Bound::new(&self.0, cx);
        f()
    }

    /// Waits until the token is cancelled. Parks the coroutine, or the thread outside of
    /// one.
    ///
    /// ```
    /// let token = crore::CancelToken::new();
    /// let theirs = token.clone();
    /// let thread = std::thread::spawn(move || theirs.wait());
    /// token.cancel();
    /// thread.join().unwrap();
    /// ```
    pub fn wait(&self) {
        if !self.is_cancelled() {
            block_on(self.cancelled());
        }
    }

    /// As [`wait`](Self::wait), for at most `timeout`; whether the token was cancelled.
    ///
    /// ```
    /// let token = crore::CancelToken::new();
    /// assert!(!token.wait_timeout(std::time::Duration::from_millis(1)));
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        self.is_cancelled()
            || block_on_deadline(self.cancelled(), deadline).is_some()
            || self.is_cancelled()
    }

    /// As [`wait`](Self::wait), as a future.
    ///
    /// ```
    /// let token = crore::CancelToken::new();
    /// let guard = token.clone().drop_guard();
    /// crore::run(|| {
    ///     crore::spawn(move || drop(guard));
    ///     crore::block_on(token.cancelled());
    /// }).unwrap();
    /// ```
    pub fn cancelled(&self) -> Cancelled<'_> {
        Cancelled {
            token: self,
            key: None,
        }
    }

    /// Its being cancelled as a case of a [`select!`](crate::select!): `cancelled(token)`.
    ///
    /// ```
    /// let (token, (_tx, rx)) = (crore::CancelToken::new(), crore::sync::channel::bounded::<u32>(1));
    /// token.cancel();
    /// crore::select! {
    ///     recv(rx) -> _ => unreachable!(),
    ///     cancelled(token) => println!("the end"),
    /// }
    /// ```
    pub fn case(&self) -> ReadyCase<Cancelled<'_>> {
        ReadyCase::new(self.cancelled())
    }

    /// Cancels the token when the guard is dropped: also when its owner unwinds.
    ///
    /// ```
    /// let token = crore::CancelToken::new();
    /// let kept = token.child().drop_guard().disarm();
    /// assert!(!kept.is_cancelled());
    /// drop(token.clone().drop_guard());
    /// assert!(token.is_cancelled() && kept.is_cancelled());
    /// ```
    pub fn drop_guard(self) -> DropGuard {
        DropGuard { token: Some(self) }
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl TokenNode {
    fn new(parent: Option<Parent>) -> Self {
        Self {
            cancelled: Arc::new(AtomicBool::new(false)),
            state: Lock::new(TokenState {
                waiters: Waiters::new(),
                children: Slab::new(),
            }),
            parent,
        }
    }

    /// Cancels this one; its children, which are the caller's to cancel.
    fn cancel(&self) -> Slab<Weak<TokenNode>> {
        let mut wakes = WakeList::new();
        let mut state = self.state.lock();
        self.cancelled.store(true, Ordering::Release);
        while state.waiters.take_first(&mut wakes).is_some() {}
        std::mem::take(&mut state.children)
    }

    /// Queues for the end of the token; `None` if it is cancelled.
    fn enqueue(&self, waker: Waker) -> Option<WaiterKey> {
        let mut state = self.state.lock();
        if self.cancelled.load(Ordering::Relaxed) {
            // The waker is dropped after the lock.
            return None;
        }
        Some(state.waiters.enqueue((), Some(waker)))
    }

    fn leave(&self, key: WaiterKey) {
        // The guard goes first.
        let _removed = self.state.lock().waiters.remove(key);
    }
}

impl Drop for TokenNode {
    /// In a loop, as [`CancelToken::cancel`]: each may be the last to hold its parent.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(Parent { node, key }) = next {
            let _left = node.state.lock().children.try_remove(key);
            next = Arc::into_inner(node).and_then(|mut node| node.parent.take());
        }
    }
}

/// A coroutine that runs bound to a token, from [`CancelToken::bind`].
struct Bound<'a> {
    node: &'a TokenNode,
    cx: CurrentTask,
    /// `None` if the token was cancelled before.
    key: Option<WaiterKey>,
}

impl<'a> Bound<'a> {
    fn new(node: &'a TokenNode, cx: CurrentTask) -> Self {
        // Known to the task first: whoever cancels the token later wakes it.
        let waker = cx.bind(Arc::clone(&node.cancelled));
        let key = node.enqueue(waker.clone());
        if key.is_none() {
            waker.wake();
        }
        Self { node, cx, key }
    }
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        self.key.inspect(|&key| self.node.leave(key));
        self.cx.unbind();
    }
}

/// The future of [`CancelToken::cancelled`].
///
/// ```
/// use crore::{CancelToken, sync::Cancelled};
/// let token = CancelToken::new();
/// let wait: Cancelled<'_> = token.cancelled();
/// token.cancel();
/// crore::run(|| crore::block_on(wait)).unwrap();
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Cancelled<'a> {
    token: &'a CancelToken,
    key: Option<WaiterKey>,
}

impl Future for Cancelled<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let node = &*self.token.0;
        let waker = cx.waker().clone();
        let _old;
        if let Some(key) = self.key {
            let mut state = node.state.lock();
            if !node.cancelled.load(Ordering::Relaxed) {
                _old = state.waiters.set_waker(key, waker);
                return Poll::Pending;
            }
            return Poll::Ready(());
        }
        self.key = node.enqueue(waker);
        match self.key {
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }
}

impl Ready for Cancelled<'_> {
    type Output = ();

    fn is_ready(&mut self, waker: Option<&Waker>) -> bool {
        match waker {
            Some(waker) => Pin::new(self)
                .poll(&mut Context::from_waker(waker))
                .is_ready(),
            None => self.token.is_cancelled(),
        }
    }

    fn leave(&mut self) {
        self.key.take().inspect(|&key| self.token.0.leave(key));
    }

    fn output(&mut self) {}
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Cancelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled").finish_non_exhaustive()
    }
}

/// Cancels its token when it is dropped, see [`CancelToken::drop_guard`].
///
/// ```
/// use crore::{CancelToken, sync::DropGuard};
/// struct Server { ends_connections: DropGuard }
/// let token = CancelToken::new();
/// let server = Server { ends_connections: token.clone().drop_guard() };
/// drop(server);
/// assert!(token.is_cancelled());
/// ```
#[derive(Debug)]
#[must_use = "dropping the guard cancels at once"]
pub struct DropGuard {
    token: Option<CancelToken>,
}

impl DropGuard {
    /// Gives the token back, and does not cancel it.
    pub fn disarm(mut self) -> CancelToken {
        self.token.take().expect("it is there until here")
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.token.iter().for_each(CancelToken::cancel);
    }
}

#[cold]
fn outside() -> ! {
    panic!(
        "CancelToken::bind was called outside a coroutine: a plain thread's blocking calls can't \
         be ended; spawn a coroutine for this, or look at the token's is_cancelled"
    )
}
