//! Invariants by number: each that the sources cite is in ARCHITECTURE.md, and
//! each there is cited.

use crate::sources;
use crate::text::words;

#[test]
fn cited_invariants_exist() {
    let found = loose_ends(&sources(), include_str!("../../ARCHITECTURE.md"));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The numbers of the page's invariants.
pub(crate) fn defined(architecture: &str) -> impl Iterator<Item = &str> {
    architecture
        .lines()
        .filter_map(|line| line.strip_prefix("**")?.split_once(". "))
        .map(|(number, _)| number)
        .filter(|number| is_number(number))
}

/// Citations of nothing, and invariants that nothing cites.
fn loose_ends(files: &[(String, String)], architecture: &str) -> Vec<String> {
    let defined: Vec<_> = defined(architecture).collect();
    let mut uncited = defined.clone();
    let mut found = Vec::new();
    for (path, text) in files {
        for (line, content) in (1..).zip(text.lines()) {
            for (_, number) in words(content).filter(|(_, word)| is_number(word)) {
                uncited.retain(|other| *other != number);
                if !defined.contains(&number) {
                    found.push(format!("{path}:{line}: {number} is not in ARCHITECTURE.md"));
                }
            }
        }
    }
    found.extend(
        uncited
            .iter()
            .map(|number| format!("{number} is cited nowhere")),
    );
    found
}

/// `I7`; `D4`, too, which once were.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix(['I', 'D']).unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn loose_ends_are_found() {
    let architecture = "text I9\n**I1. One thing.** And (I2)\n**I12. Another\nthing.**";
    for (text, expected) in [
        ("// (I1), as I12 says\n", vec![]),
        (
            "// (I1, I12)\n// (I3)",
            vec!["a.rs:2: I3 is not in ARCHITECTURE.md"],
        ),
        (
            "// I12 (D4)",
            vec![
                "a.rs:1: D4 is not in ARCHITECTURE.md",
                "I1 is cited nowhere",
            ],
        ),
        ("struct I; // I1 I12 DI1 I1a", vec![]),
    ] {
        let files = [("a.rs".to_owned(), text.to_owned())];
        assert_eq!(loose_ends(&files, architecture), expected, "{text}");
    }
}
