//! Models of tokens: a tree that is cancelled while it grows and shrinks.

use loom::thread;

use super::{bounded, finish, join};
use crate::sync::CancelToken;

#[test]
fn a_wait_for_a_token_is_woken() {
    loom::model(|| {
        let token = CancelToken::new();
        let theirs = token.clone();
        let canceller = thread::spawn(move || theirs.cancel());
        finish(token.cancelled(), join(canceller));
    });
}

/// Whoever is made while the parent is cancelled is cancelled, too.
#[test]
fn a_child_is_cancelled_with_its_parent_also_while_it_is_born() {
    loom::model(|| {
        let parent = CancelToken::new();
        let theirs = parent.clone();
        let canceller = thread::spawn(move || theirs.cancel());
        let child = parent.child();
        finish(child.cancelled(), join(canceller));
        assert!(child.is_cancelled());
    });
}

/// The one in the middle goes while the word passes it.
#[test]
fn a_grandchild_is_cancelled_though_nobody_holds_its_parent() {
    loom::model(|| {
        let root = CancelToken::new();
        let middle = root.child();
        let leaf = middle.child();
        let canceller = thread::spawn(move || root.cancel());
        drop(middle);
        finish(leaf.cancelled(), join(canceller));
    });
}

#[test]
fn two_cancel_and_a_wait_is_dropped() {
    bounded(|| {
        let token = CancelToken::new();
        let child = token.child();
        let (theirs, other) = (token.clone(), child.clone());
        let both = [
            thread::spawn(move || theirs.cancel()),
            thread::spawn(move || other.cancel()),
        ];
        drop(child.cancelled());
        finish(child.cancelled(), || {
            both.into_iter().for_each(|one| one.join().unwrap());
        });
    });
}
