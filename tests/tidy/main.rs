//! Holds what the compiler does not: the floors, who may name which crate,
//! and the shape of a file. Reads every file under `src/`.
//!
//! The checks are a function of a path and a text, so each is tested with a
//! planted violation. Comments and literals are blanked out first; what is
//! left is searched word by word. `unsafe` without a `SAFETY` comment is
//! clippy's to find.

mod binaries;
mod circles;
mod citations;
mod commands;
mod examples;
mod hooks;
mod mutants;
mod names;
mod orderings;
mod pages;
mod rooms;
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use text::{blank, first_names, test_items, words};

/// The rooms under `src/` from the lowest floor up. A file imports from its own room
/// and from the floors below; from `lib`, where the re-exports are, nobody.
const FLOORS: [&[&str]; 14] = [
    &["util", "supported", "seam"],
    &["sys"],
    &["shim"],
    &["stack"],
    &["switch"],
    &["task"],
    &["driver"],
    &["sched"],
    &["block_on", "helpers"],
    &["hook", "time", "io", "local", "sync", "signal", "generator"],
    &["runtime"],
    &["scope", "blocking", "select", "test_run"],
    &["sim"],
    &["lib", "guide"],
];

/// A crate and the rooms, or files, under `src/` that may name it.
const IMPORTERS: [(&str, &[&str]); 3] = [
    ("corosensei", &["switch"]),
    ("libc", &["sys", "hook", "sim"]),
    ("mio", &["driver/poller.rs"]),
];

const LONGEST: usize = 600;

#[test]
fn the_sources_are_tidy() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        found.extend(violations(&path, &text));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Every source file: its path from the package's root, and its text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    assert!(files.len() > 5, "only {files:?} found under src/");
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap();
        (path.to_owned(), fs::read_to_string(file).unwrap())
    };
    files.iter().map(read).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// What is wrong with the file at `path` (`src/…`), as `path:line: rule: why`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let code = blank(text);
    let tests = test_items(path, &code);
    let place = module(path);
    let mut found = Vec::new();
    let mut say = |at: usize, rule: &str, why: String| {
        let line = 1 + text[..at].matches('\n').count();
        found.push(format!("{path}:{line}: {rule}: {why}"));
    };

    // The crate's own header is the README.
    let headers = ["//!", "#![doc = include_str!"];
    if !headers
        .iter()
        .any(|header| text.trim_start().starts_with(header))
    {
        say(
            0,
            "header",
            "start with //! and say what lives here and what does not".into(),
        );
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        say(
            text.len() - 1,
            "length",
            format!("{lines} lines; over {LONGEST} is more than one job"),
        );
    }
    for (at, word) in words(&code) {
        let rest = &code[at + word.len()..];
        let importers = IMPORTERS.iter().find(|(name, _)| *name == word);
        if let Some((_, places)) = importers
            .filter(|(_, places)| !places.contains(&place) && !places.contains(&&path[4..]))
        {
            say(
                at,
                word,
                format!("only {} may name it", places.join(" and ")),
            );
        }
        let in_test = tests.iter().any(|item| item.contains(&at));
        let runs_models = ["loom", "shuttle"].contains(&word);
        if runs_models && !in_test && !["seam", "shim", "lib"].contains(&place) {
            say(
                at,
                word,
                "only the seam, the shim, lib.rs and tests know of it".into(),
            );
        }
        if ["todo", "unimplemented"].contains(&word) && rest.starts_with('!') {
            say(at, "unfinished", format!("{word}! in the sources"));
        }
        if word == "ignore" && code[..at].ends_with("#[") && rest.starts_with(']') {
            say(at, "ignore", "give the reason: #[ignore = \"…\"]".into());
        }
        if word == "super" && rest.starts_with("::super::") && !in_test {
            say(
                at,
                "super",
                "write crate:: so that the floor can be read".into(),
            );
        }
        // In a floor's own root file `super` is the crate.
        if word == "crate" || (word == "super" && is_root(path)) {
            // Above the scheduler a test may use the whole crate.
            let free = place == "lib" || in_test && floor(place) > floor("sched");
            for name in first_names(rest) {
                // `super` may be a module of the room, `$crate` leads to macros too.
                let room = is_room(name) || word == "crate" && !code[..at].ends_with('$');
                if !free && room && name != place && floor(name) >= floor(place) {
                    let (from, to) = (floor(place), floor(name));
                    say(
                        at,
                        "floor",
                        format!("{place} (floor {from}) imports {name} (floor {to})"),
                    );
                }
            }
        }
    }
    found
}

/// The floor of a room; what is none is a re-export of `lib`.
fn floor(name: &str) -> usize {
    let found = FLOORS.iter().position(|rooms| rooms.contains(&name));
    found.unwrap_or(FLOORS.len() - 1)
}

fn is_room(name: &str) -> bool {
    FLOORS.iter().any(|rooms| rooms.contains(&name))
}

/// The module right under the crate root that holds the file.
fn module(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap();
    inner.split('/').next().unwrap().trim_end_matches(".rs")
}

fn is_root(path: &str) -> bool {
    let inner = path.strip_prefix("src/").unwrap();
    !inner.contains('/') || inner == format!("{}/mod.rs", module(path))
}

/// The rules that a file under a header line breaks, with their lines.
fn rules(path: &str, body: &str) -> Vec<String> {
    let found = violations(path, &format!("//! Header.\n{body}"));
    let short = |line: &String| {
        line.strip_prefix(path)
            .unwrap()
            .split(": ")
            .next()
            .unwrap()
            .to_owned()
            + " "
            + line.split(": ").nth(1).unwrap()
    };
    found.iter().map(short).collect()
}

#[test]
fn each_room_has_its_floor() {
    let named: BTreeSet<_> = FLOORS.iter().copied().flatten().copied().collect();
    let files = sources();
    let there: BTreeSet<_> = files.iter().map(|(path, _)| module(path)).collect();
    assert_eq!(named, there);
}

#[test]
fn upward_paths_are_found() {
    for (path, body) in [
        ("src/sys/mem.rs", "use crate::stack::Arena;"),
        ("src/stack/mod.rs", "use crate::switch;"),
        (
            "src/switch/carrier.rs",
            "use crate::{sys::mem, task::Slot};",
        ),
        (
            "src/task/slot.rs",
            "use crate::{\u{20}sys, shim::{Mutex}, driver};",
        ),
        (
            "src/driver/wheel.rs",
            "fn f() { crate::sched::yield_now() }",
        ),
        ("src/sched/mod.rs", "use crate::runtime::Runtime;"),
        ("src/sched/mod.rs", "fn f() { crate::spawn(|| ()) }"),
        ("src/task/mod.rs", "use super::sched;"),
        ("src/util.rs", "use super::driver::Clock;"),
        ("src/util/no_park.rs", "use crate::sys::mem;"),
        ("src/sys/mem.rs", "use crate::shim::Lock;"),
        (
            "src/hook/wait/retry.rs",
            "use crate::blocking::spawn_blocking;",
        ),
        ("src/hook/mod.rs", "use crate::runtime::Handle;"),
        ("src/helpers/mod.rs", "use crate::block_on::block_on;"),
        ("src/sync/mutex.rs", "use crate::time::sleep;"),
        ("src/time/mod.rs", "fn f() { crate::run(|| ()) }"),
        ("src/runtime/mod.rs", "use crate::scope::Scope;"),
        ("src/runtime/mod.rs", "fn f() { crate::Builder::new() }"),
        ("src/scope/mod.rs", "use crate::blocking::spawn_blocking;"),
        (
            "src/sched/queue.rs",
            "#[cfg(test)] mod tests { use crate::sync::Mutex; }",
        ),
    ] {
        assert_eq!(rules(path, body), [":2 floor"], "{path} {body}");
    }
    assert_eq!(
        rules("src/task/slot.rs", "\n\nuse super::super::sys;"),
        [":4 super"]
    );
}

#[test]
fn downward_paths_are_fine() {
    for (path, body) in [
        ("src/sys/mem.rs", "use crate::util::report;"),
        (
            "src/time/mod.rs",
            "macro_rules! m { () => { $crate::m!() } }",
        ),
        (
            "src/sched/mod.rs",
            "use crate::{driver::{Clock, Wheel}, task::Id, sys};",
        ),
        ("src/runtime/mod.rs", "use crate::sched::Worker;"),
        (
            "src/sync/mutex.rs",
            "use crate::block_on::block_on; use super::channel;",
        ),
        ("src/hook/net/resolve.rs", "use crate::helpers;"),
        ("src/blocking/mod.rs", "use crate::runtime::JoinHandle;"),
        (
            "src/time/mod.rs",
            "#[cfg(test)] mod tests { fn f() { crate::run(|| ()) } }",
        ),
        ("src/lib.rs", "pub use crate::hook::status;"),
        (
            "src/task/slot.rs",
            "// see crate::sched\nconst A: &str = \"crate::sched\"; pub(crate) fn f() {}",
        ),
        (
            "src/task/mod.rs",
            "mod tests { use super::Slot; use super::*; }",
        ),
    ] {
        assert_eq!(rules(path, body), Vec::<String>::new(), "{path} {body}");
    }
}

#[test]
fn each_crate_has_its_importers() {
    for (name, good, bad) in [
        ("corosensei", "src/switch/carrier.rs", "src/sched/mod.rs"),
        ("libc", "src/sys/mod.rs", "src/driver/mod.rs"),
        ("libc", "src/hook/mod.rs", "src/lib.rs"),
        ("mio", "src/driver/poller.rs", "src/driver/reactor.rs"),
    ] {
        for body in [
            format!("fn f() {{ {name}::g() }}"),
            format!("use {name} as x;"),
        ] {
            assert_eq!(rules(good, &body), Vec::<String>::new(), "{body}");
            assert_eq!(rules(bad, &body), [format!(":2 {name}")], "{body}");
        }
    }
}

#[test]
fn loom_and_shuttle_stay_in_the_shim() {
    for body in [
        "#[cfg(loom)] fn f() {}",
        "#[cfg(not(loom))] fn f() {}",
        "#[cfg(all(loom, not(test)))] fn f() {}",
        "fn f() { if cfg!(loom) {} }",
        "use loom::model;",
        "#[cfg(test)] mod tests { fn f() {} } #[cfg(loom)] fn f() {}",
    ] {
        assert_eq!(rules("src/task/slot.rs", body), [":2 loom"], "{body}");
        let other = body.replace("loom", "shuttle");
        assert_eq!(rules("src/task/slot.rs", &other), [":2 shuttle"], "{other}");
        assert_eq!(rules("src/shim.rs", body), Vec::<String>::new(), "{body}");
        assert_eq!(
            rules("src/task/tests.rs", body),
            Vec::<String>::new(),
            "{body}"
        );
    }
    for body in [
        "#[cfg(test)] mod tests { fn f() { if cfg!(loom) { loom::model(g) } } }",
        "#[cfg(all(test, loom))] mod models;",
        "#[cfg(all(test, not(loom)))] mod tests { fn f() {} }",
    ] {
        assert_eq!(
            rules("src/task/slot.rs", body),
            Vec::<String>::new(),
            "{body}"
        );
    }
}

#[test]
fn unfinished_work_is_found() {
    let rules = |body| rules("src/time.rs", body);
    assert_eq!(rules("fn f() { todo!() }"), [":2 unfinished"]);
    assert_eq!(
        rules("fn f() { unimplemented!(\"later\") }"),
        [":2 unfinished"]
    );
    assert_eq!(rules("#[test] #[ignore] fn f() {}"), [":2 ignore"]);
    assert_eq!(
        rules("#[test] #[ignore = \"needs 4 GB\"] fn f() {}"),
        Vec::<String>::new()
    );
    assert_eq!(rules("fn todo() {} // todo!()"), Vec::<String>::new());
}

#[test]
fn headers_and_lengths_are_checked() {
    let path = "src/time.rs";
    assert_eq!(violations(path, "//! A clock.\n"), Vec::<String>::new());
    for text in ["", "// A clock.\n", "use std::io;\n//! late\n"] {
        let found = violations(path, text);
        assert!(
            found.len() == 1 && found[0].starts_with("src/time.rs:1: header: "),
            "{found:?}"
        );
    }
    let long = "//! Long.\n".repeat(LONGEST);
    assert_eq!(violations(path, &long), Vec::<String>::new());
    let found = violations(path, &format!("{long}\n"));
    assert!(
        found.len() == 1 && found[0].starts_with("src/time.rs:601: length: "),
        "{found:?}"
    );
}
