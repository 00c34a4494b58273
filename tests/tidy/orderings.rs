//! Holds docs/ORDERINGS.md: each file that orders memory is there, in the part of what has
//! the shim's atomics, or in that of what has std's; and none that does not.

use std::collections::BTreeSet;
use std::fs;

use crate::pages::root;
use crate::sources;
use crate::text::{blank, first_names, test_items, words};

const ORDERINGS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

/// Defines what the others use.
const SHIM: &str = "src/shim.rs";

#[test]
fn each_ordering_has_its_reason() {
    let page = fs::read_to_string(root().join("docs/ORDERINGS.md")).unwrap();
    let found = differences(&sources(), &page);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Where the files and the page disagree.
fn differences(files: &[(String, String)], page: &str) -> Vec<String> {
    let (of_shim, of_std) = page
        .split_once("\n## Not in a model\n")
        .expect("the page has both parts");
    let mut found = Vec::new();
    let mut uses = [BTreeSet::new(), BTreeSet::new()];
    for (path, text) in files.iter().filter(|(path, _)| path != SHIM) {
        let taken = atomics(path, text);
        if orders(path, text) && taken == [false; 2] {
            found.push(format!("{path}: whose atomics are these?"));
        }
        for (uses, taken) in uses.iter_mut().zip(taken) {
            uses.extend(taken.then_some(path.as_str()));
        }
    }
    for (part, used, whose) in [(of_shim, &uses[0], "shim"), (of_std, &uses[1], "std")] {
        let named: BTreeSet<_> = first_cells(part).collect();
        let not_there = used.difference(&named);
        found.extend(
            not_there.map(|path| format!("{path}: docs/ORDERINGS.md has no reason for it")),
        );
        let too_many = named.difference(used);
        found.extend(too_many.map(|path| {
            format!("docs/ORDERINGS.md: {path} orders nothing by the {whose}'s atomics")
        }));
    }
    found
}

/// The files that stand in the first cells of a part's tables.
fn first_cells(part: &str) -> impl Iterator<Item = &str> {
    let rows = part.lines().filter(|line| line.starts_with("| `src/"));
    let cells = rows.filter_map(|row| row.trim_start_matches("| ").split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2))
}

/// Whether a file, but for its tests, says how accesses are ordered.
fn orders(path: &str, text: &str) -> bool {
    let code = blank(text);
    let said = names(path, &code);
    let imported = ["atomic", "Ordering"]
        .iter()
        .all(|name| said.contains(name));
    imported && ORDERINGS.iter().any(|ordering| said.contains(ordering))
}

/// Whether such a file has the shim's atomics, and whether it has std's.
fn atomics(path: &str, text: &str) -> [bool; 2] {
    let code = blank(text);
    let tests = test_items(path, &code);
    let from = |module: &str| {
        let mut places = code.match_indices(module);
        places.any(|(at, _)| {
            let outside = !tests.iter().any(|item| item.contains(&at));
            outside && first_names(&code[at + module.len()..]).contains(&"atomic")
        })
    };
    let of_shim = from("shim") || from("seam");
    [of_shim, from("std::sync")].map(|taken| orders(path, text) && taken)
}

/// The words of a file's code, but for its tests.
fn names<'a>(path: &str, code: &'a str) -> BTreeSet<&'a str> {
    let tests = test_items(path, code);
    words(code)
        .filter(|(at, _)| !tests.iter().any(|item| item.contains(at)))
        .map(|(_, word)| word)
        .collect()
}

#[test]
fn orderings_without_a_reason_are_found() {
    let page = "# Page\n| `src/a.rs`, `src/b.rs`: the flag | `src/x.rs` | why |\n\
        \n## Not in a model\n| `src/c.rs` | what | why |\n";
    let shims = "use crate::shim::atomic::{A, Ordering};\nfn f() { a.load(Ordering::Relaxed) }";
    let stds = "use std::sync::{Arc, atomic};\nfn f() { fence(atomic::Ordering::SeqCst) }";
    let neither = "use std::{cmp::Ordering, sync::atomic};\n// Relaxed\n";
    let in_test = "#[cfg(test)] mod tests { use std::sync::atomic::Ordering::Relaxed; }";
    let found = |c: &str, d: &str| {
        let texts = [("a", shims), ("b", shims), ("c", c), ("d", d)];
        let files = texts.map(|(name, text)| (format!("src/{name}.rs"), text.to_owned()));
        differences(&files, page)
    };
    assert_eq!(found(stds, neither), Vec::<String>::new());
    assert_eq!(found(stds, in_test), Vec::<String>::new());
    assert_eq!(
        found(stds, stds),
        ["src/d.rs: docs/ORDERINGS.md has no reason for it"]
    );
    assert_eq!(
        found(in_test, neither),
        ["docs/ORDERINGS.md: src/c.rs orders nothing by the std's atomics"]
    );
    assert_eq!(
        found(&format!("{stds}\n{shims}"), neither),
        ["src/c.rs: docs/ORDERINGS.md has no reason for it"]
    );
    assert_eq!(
        found(stds, "use elsewhere::atomic::Ordering::Relaxed;"),
        ["src/d.rs: whose atomics are these?"]
    );
}
