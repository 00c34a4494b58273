//! Scenarios of cancel tokens: trees that are cancelled while they grow and shrink.

use shuttle::thread;

use super::{MOMENT, begin};
use crate::block_on::block_on;
use crate::shim::scenario::{check, crowd, join};
use crate::sync::CancelToken;

/// Six wait in a tree of three generations, and more are born: all hear of its end.
#[test]
fn all_of_a_tree_are_cancelled_while_it_grows() {
    check(|| {
        let root = CancelToken::new();
        let middle = [root.child(), root.child()];
        let cancellers = {
            let root = root.clone();
            crowd(2, move |_| root.cancel())
        };
        let leaves = crowd(6, move |number| {
            let parent = &middle[number % 2];
            let leaf = parent.child();
            match number {
                0 => drop(begin(leaf.cancelled())),
                1 => drop(leaf.wait_timeout(MOMENT)),
                2 => leaf.child().wait(),
                _ => block_on(leaf.cancelled()),
            }
            leaf
        });
        join(cancellers);
        let leaves = join(leaves);
        assert!(leaves.iter().all(CancelToken::is_cancelled));
    });
}

/// Those in the middle go while the word passes them.
#[test]
fn leaves_are_cancelled_though_nobody_holds_their_parents() {
    check(|| {
        let root = CancelToken::new();
        let middle: Vec<_> = (0..3).map(|_| root.child()).collect();
        let leaves: Vec<_> = middle.iter().map(CancelToken::child).collect();
        let droppers: Vec<_> = middle
            .into_iter()
            .map(|middle| thread::spawn(move || drop(middle)))
            .collect();
        let waits: Vec<_> = leaves
            .into_iter()
            .map(|leaf| thread::spawn(move || leaf.wait()))
            .collect();
        root.cancel();
        join(droppers);
        join(waits);
    });
}

/// A branch that is cancelled takes its own with it, and nobody else.
#[test]
fn a_branch_is_cancelled_alone() {
    check(|| {
        let root = CancelToken::new();
        let branches: Vec<_> = (0..3).map(|_| root.child()).collect();
        let theirs = branches.clone();
        let waits = crowd(4, move |number| {
            let leaf = theirs[number % 2].child();
            block_on(leaf.cancelled());
        });
        let ends = [branches[0].clone(), branches[1].clone()]
            .map(|branch| thread::spawn(move || drop(branch.drop_guard())));
        join(ends.into());
        join(waits);
        assert!(!root.is_cancelled() && !branches[2].is_cancelled());
        assert!(branches[0].is_cancelled() && branches[1].is_cancelled());
    });
}
