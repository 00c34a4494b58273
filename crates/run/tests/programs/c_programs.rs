//! Programs in C that were compiled without a thought of crore.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Folder, same};

pub(crate) fn compile(folder: &Folder, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/c")
        .join(name);
    let program = folder.file(name.trim_end_matches(".c"));
    let mut cc = Command::new("cc");
    // What is undefined traps, without a library of the compiler's in the program.
    cc.args(["-w", "-O1", "-pthread", "-fsanitize=undefined"])
        .arg("-fsanitize-undefined-trap-on-error")
        .arg(source)
        .arg("-o")
        .arg(&program);
    assert!(cc.status().unwrap().success());
    program
}

#[test]
fn locks_of_all_kinds_count_right() {
    let folder = Folder::new("locks");
    let text = same(compile(&folder, "locks.c"), &[]);
    assert_eq!(text, "12800 12800 3200 12800 12800 1 2080 1 2016 0\n");
}

#[test]
fn threads_end_as_they_do() {
    let folder = Folder::new("exits");
    let program = compile(&folder, "exits.c");
    let text = same(&program, &[]);
    assert!(
        text.ends_with("main's handler\nthe last thread\nexit handlers\n"),
        "{text}"
    );
    let text = same(&program, &["argument"]);
    assert!(
        text.ends_with("argument\nthe last thread\nexit handlers\n"),
        "{text}"
    );
}

#[test]
fn children_of_all_kinds_come_back() {
    let folder = Folder::new("children");
    let text = same(compile(&folder, "children.c"), &[]);
    assert!(text.starts_with("20 21 21 0 3 from a shell\n"), "{text}");
}

#[test]
fn signals_go_to_threads_that_want_them() {
    let folder = Folder::new("signals");
    assert_eq!(same(compile(&folder, "signals.c"), &[]), "1 1 11 0 1\n2\n");
}

#[test]
fn signals_to_the_process_end_a_wait_of_a_thread_that_lets_them_in() {
    let folder = Folder::new("to_process");
    let text = same(compile(&folder, "to_process.c"), &[]);
    let ends = |end: &str| text.lines().filter(|line| line.ends_with(end)).count();
    assert_eq!(ends(": -1 EINTR, 1"), 48, "{text}");
    assert_eq!(ends(": 0 -, 1") + ends(": 1 -, 1"), 4, "{text}");
    assert_eq!(ends("bystander 166"), 1, "{text}");
}

#[test]
fn signals_come_with_their_values() {
    let folder = Folder::new("sigqueue");
    let text = same(compile(&folder, "sigqueue.c"), &[]);
    assert!(text.ends_with("queued 1 6\nwrong 22 -1\n"), "{text}");
}

#[test]
fn programs_close_what_they_do_not_know() {
    let folder = Folder::new("closes");
    let text = same(compile(&folder, "closes.c"), &[]);
    let right = text.lines().filter(|line| line.ends_with(": 20 5")).count();
    assert_eq!(right, 18, "{text}");
}

/// Ends by a signal, which `timeout` hands on as its own end.
#[test]
fn cancellations_and_signals_end_waits() {
    let folder = Folder::new("cancels");
    let text = same(compile(&folder, "cancels.c"), &[]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 37, "{text}");
    let in_order = |kind: &str, end: &str| {
        let of_kind = |line: &&&str| line.starts_with(kind) && line.ends_with(end);
        lines.iter().filter(of_kind).count()
    };
    assert_eq!(in_order("cancel ", ": 0 1 1"), 16, "{text}");
    assert_eq!(in_order("kill ", ": 0 7 1 1"), 13, "{text}");
}
