//! The promise: gdb shows all coroutines and where the parked ones are, by
//! `scripts/gdb/crore.py`: in a process, and in its core file. It loads the script from the
//! program.
//!
//! gdb starts the program, so that no right to attach to others is needed.

#![cfg(target_arch = "x86_64")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The example that was built beside this test.
fn program() -> PathBuf {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop(); // deps
    folder.pop();
    folder.join("examples/parked")
}

/// What gdb says to commands about the program, or about what is left of it.
fn gdb(commands: &[&str], core: Option<&Path>) -> String {
    let safe = format!("add-auto-load-safe-path {}", program().display());
    let mut gdb = Command::new("timeout");
    gdb.args(["--kill-after=5", "150", "gdb", "-q", "-nx", "-batch"])
        .args(["-iex", &safe, "-iex", "set width 0"]);
    // gdb goes on after a command that fails, except where it is of a script.
    commands.iter().for_each(|one| _ = gdb.args(["-ex", one]));
    let output = gdb.arg(program()).args(core).stdin(Stdio::null()).output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Whether a part of what `crore bt all` says is of a coroutine with these words: the last
/// that it describes. (What gdb says at its beginning may stand before the first.)
fn is_of(part: &str, words: &str) -> bool {
    let mut described = part.lines().filter(|line| line.contains(" spawned at "));
    let last = described.next_back();
    part.contains("\n#0 ") && last.is_some_and(|line| line.contains(words))
}

fn paragraph<'a>(text: &'a str, words: &str) -> &'a str {
    let part = text.split("\n\n").find(|part| is_of(part, words));
    part.unwrap_or_else(|| panic!("nothing of {words}:\n{text}"))
}

/// Of the function in which all but one wait.
fn calls(part: &str) -> usize {
    part.matches("waits_in_a_call (depth=").count()
}

/// All that must be seen in a process and in a core file.
fn check(text: &str) {
    let lines = |words: &str| {
        let of = |line: &&str| line.contains(" spawned at ") && line.contains(words);
        text.lines().filter(of).count()
    };
    // Each by `list` and by `bt`.
    assert_eq!(
        lines("running     own stack         'main' spawned at "),
        2,
        "{text}"
    );
    assert_eq!(
        lines("parked      shared stack      spawned at "),
        6,
        "{text}"
    );
    assert!(lines("/examples/parked.rs:") >= 10, "{text}");
    let own = paragraph(text, "'own' ");
    assert_eq!(calls(own), 4, "{own}");
    assert!(own.contains("crore::time::wait::park ()"), "{own}");
    // One of the three that share a stack has its frames there, the others' are on the heap,
    // those of the second packed.
    let shared: Vec<_> = text
        .split("\n\n")
        .filter(|part| is_of(part, "parked      shared stack "))
        .map(calls)
        .collect();
    assert_eq!(shared, [5, 6, 7], "{text}");
    if crore::local::own_thread_locals().is_ok() {
        let like_a_thread = paragraph(text, "'like a thread' ");
        assert!(
            like_a_thread.contains("own thread-locals"),
            "{like_a_thread}"
        );
        assert_eq!(calls(like_a_thread), 8, "{like_a_thread}");
    }
    assert!(text.contains("crore::time::wait::sleep ("), "{text}");
}

#[test]
fn all_coroutines_of_a_process_and_of_its_core_file_are_shown() {
    let name = format!("crore-debugger-{}", std::process::id());
    let core = std::env::temp_dir().join(name);
    let dump = format!("generate-core-file {}", core.display());
    let commands = ["break all_are_parked", "run", "crore list", "crore bt all"];
    // What is on the stacks is as before: it goes on to its end.
    let after = [
        "echo \\nagain\\n",
        "crore bt 1:2:0",
        "bt",
        &dump,
        "continue",
    ];
    let process = gdb(&[&commands[..], &after[..]].concat(), None);
    let left = gdb(&["crore list", "crore bt all", "bt"], Some(&core));
    let length = std::fs::metadata(&core).map(|core| core.len());
    let _ = std::fs::remove_file(&core);
    let (first, again) = process.split_once("\nagain\n").unwrap();
    check(first);
    assert_eq!(calls(again), 5, "{again}");
    // As docs/INSIDE.md shows it.
    let page = include_str!("../../../docs/INSIDE.md");
    let shown = page.split("(gdb) crore list\n").nth(1).unwrap();
    let shown: Vec<_> = shown
        .lines()
        .take_while(|line| !line.starts_with("(gdb)"))
        .collect();
    let here = crore::local::own_thread_locals().is_ok();
    let expected = shown
        .iter()
        .filter(|line| here || !line.contains("thread-locals"));
    for line in expected {
        assert!(process.contains(line), "{line}\n{process}");
    }
    assert!(process.contains("exited normally"), "{process}");
    check(&left);
    // Of the address space that is reserved nothing.
    assert!(length.unwrap() < 1 << 30);
    // Through the switch down to the worker and the thread, which perf and others follow, too.
    for text in [process, left] {
        let plain = text.rsplit("#0  parked::all_are_parked").next().unwrap();
        assert!(
            plain.contains("in crore::sched::worker::Worker::run"),
            "{plain}"
        );
        assert!(plain.contains("in parked::main ()"), "{plain}");
    }
}

#[test]
fn what_there_is_not_is_said() {
    let text = gdb(&["crore list"], None);
    assert!(text.contains("no coroutines"), "{text}");
    let text = gdb(&["break all_are_parked", "run", "crore bt 1:99:0"], None);
    assert!(text.contains("no coroutine 1:99:0"), "{text}");
    // Nor does it harm to load the script once more.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/gdb/crore.py");
    let text = gdb(&[&format!("source {script}"), "crore list"], None);
    assert!(text.contains("no coroutines"), "{text}");
}
