//! What a worker and those who have a task for it do to their mailboxes, and in which
//! order: README.md says why nothing is slept on. Over mailboxes alone, so that the
//! models (`loom_tests.rs`) run this very code.

use super::mailbox::{Mail, Mailbox, Owner};

/// A worker, as one that has nothing to do.
pub(super) trait Idler {
    type Message: Mail;
    type Task;
    /// What its sleep returns.
    type Slept;

    fn mailbox(&self) -> &Mailbox<Self::Message, Self::Task>;

    /// Whether it could take a task.
    fn has_room(&self) -> bool;

    /// [`steal_before_sleep`] among the others.
    fn steal_before_sleep(&self) -> Option<Self::Task>;

    /// Whether something came while it looked out for a moment. It may miss something.
    fn looks_out(&self, bids: bool) -> bool;

    /// Sleeps until it is notified, or something else happens.
    fn sleep(&self) -> Self::Slept;
}

/// How it came to be awake again.
pub(super) enum Awake<T, S> {
    /// It has this task of another worker.
    Stole(T),
    Slept(S),
    /// Something had come before it slept.
    Stayed,
}

/// Sleeps, unless there is something to do.
#[inline]
pub(super) fn idle<I: Idler>(worker: &I) -> Awake<I::Task, I::Slept> {
    let mailbox = worker.mailbox();
    // Without room it has no use for others' tasks.
    let bids = worker.has_room();
    if bids {
        mailbox.set_idle();
        // From here on an injection anywhere nudges it; what was injected before, it
        // finds itself.
        if let Some(task) = worker.steal_before_sleep() {
            mailbox.awake();
            return Awake::Stole(task);
        }
    }
    let awake = if worker.looks_out(bids) || !mailbox.may_sleep(bids) {
        Awake::Stayed
    } else {
        Awake::Slept(worker.sleep())
    };
    mailbox.awake();
    awake
}

/// A task of another worker, for a thief. A glance: it may miss what has just been
/// injected.
pub(super) fn steal<'a, M: Mail + 'a, T: 'a>(
    others: impl Iterator<Item = &'a Mailbox<M, T>> + Clone,
    stopping: bool,
) -> Option<T> {
    let victims = others.clone().filter(|other| match stopping {
        true => other.has_injected(),
        false => other.has_stealable(),
    });
    steal_from(victims, others, || stopping)
}

/// As [`steal`], for a thief that has said that it is idle and sleeps next. It takes
/// every lock: a spawner that injects after the look knows of the idle thief then, by
/// the same lock.
pub(super) fn steal_before_sleep<'a, M: Mail + 'a, T: 'a>(
    others: impl IntoIterator<Item = &'a Mailbox<M, T>> + Clone,
    is_stopping: impl Fn() -> bool,
) -> Option<T> {
    steal_from(others.clone(), others, is_stopping)
}

/// The oldest task of the first that has one; if there are more, others are told: a
/// worker that takes its own tells one thief, which may be busy with this one for long.
fn steal_from<'a, M: Mail + 'a, T: 'a>(
    victims: impl IntoIterator<Item = &'a Mailbox<M, T>>,
    others: impl IntoIterator<Item = &'a Mailbox<M, T>>,
    is_stopping: impl Fn() -> bool,
) -> Option<T> {
    let steals = |victim: &'a Mailbox<M, T>| Some((victim.steal_injected(is_stopping())?, victim));
    let (task, victim) = victims.into_iter().find_map(steals)?;
    if victim.has_stealable() {
        nudge(others);
    }
    Some(task)
}

/// Injects a task, and wakes one of the others, if one is idle, that could steal it.
/// Comes back if the mailbox is not `owner`'s any more.
pub(super) fn inject<'a, M: Mail + 'a, T: 'a>(
    mailbox: &Mailbox<M, T>,
    owner: Owner,
    (task, pinned): (T, bool),
    others: impl IntoIterator<Item = &'a Mailbox<M, T>>,
) -> Result<(), T> {
    let coming = mailbox.inject(owner, task, pinned)?;
    // A worker that was asleep takes it, and looks for help if there is more.
    if !coming && !pinned {
        nudge(others);
    }
    Ok(())
}

/// The oldest task, for its worker; if there are more, others are told: nobody has been
/// of those behind it, if it was asleep.
pub(super) fn take_injected<'a, M: Mail + 'a, T: 'a>(
    mailbox: &Mailbox<M, T>,
    others: impl IntoIterator<Item = &'a Mailbox<M, T>>,
) -> Option<T> {
    let task = mailbox.take_injected();
    if mailbox.has_stealable() {
        nudge(others);
    }
    task
}

/// Tells an idle worker that there are tasks. It looks at all others before it sleeps
/// again, so one is enough.
pub(super) fn nudge<'a, M: Mail + 'a, T: 'a>(others: impl IntoIterator<Item = &'a Mailbox<M, T>>) {
    let _ = others.into_iter().any(Mailbox::nudge);
}
