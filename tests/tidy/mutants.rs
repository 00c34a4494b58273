//! Holds the mutants: each still fits the source that it changes, and is on the page.
//! And the safety case: each invariant has its row there.

use std::collections::BTreeMap;
use std::fs;

use crate::citations::defined;
use crate::pages::root;

#[test]
fn mutants_fit_the_sources_and_are_on_the_page() {
    let page = fs::read_to_string(root().join("docs/TESTING.md")).unwrap();
    let mutants = mutants();
    assert!(mutants.len() > 10, "only {} found", mutants.len());
    let mut found = Vec::new();
    for (name, text) in &mutants {
        let Some(mutant) = Mutant::of(text) else {
            found.push(format!(
                "{name}: not written as scripts/mutants.sh reads it"
            ));
            continue;
        };
        let source = fs::read_to_string(root().join(mutant.file)).unwrap_or_default();
        match source.matches(mutant.old).count() {
            1 => {}
            count => found.push(format!(
                "{name}: {} has its text {count} times",
                mutant.file
            )),
        }
        let row = format!("| `{name}` | `{}`", mutant.test);
        if !page.contains(&row) {
            found.push(format!("{name}: docs/TESTING.md has no row {row}"));
        }
    }
    let pending =
        page.matches("`, not run yet |").count() + page.matches("model, not run yet |").count();
    let count = format!(
        ": {} of {} are caught",
        mutants.len() - pending,
        mutants.len()
    );
    if !page.replace('\n', " ").contains(&count) {
        found.push(format!("docs/TESTING.md does not say \"{count}\""));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// By their names.
pub(crate) fn mutants() -> BTreeMap<String, String> {
    let files = fs::read_dir(root().join("tests/mutants")).unwrap();
    files
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

struct Mutant<'a> {
    file: &'a str,
    test: &'a str,
    old: &'a str,
}

impl<'a> Mutant<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (head, rest) = text.split_once("\n<<<<<<<\n")?;
        let (old, rest) = rest.split_once("\n=======\n")?;
        rest.ends_with(">>>>>>>\n").then_some(())?;
        let line = |name| head.lines().find_map(|line| line.strip_prefix(name));
        Some(Self {
            file: line("file: ")?,
            test: line("test: ")?,
            old,
        })
    }
}

#[test]
fn each_invariant_has_its_row_in_the_safety_case() {
    let page = fs::read_to_string(root().join("docs/SAFETY.md")).unwrap();
    let names = mutants();
    for invariant in defined(include_str!("../../ARCHITECTURE.md")) {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| {invariant} |")))
            .unwrap_or_else(|| panic!("docs/SAFETY.md has no row for {invariant}"));
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        assert!(
            cells[2].contains('`'),
            "{invariant}: nothing that would show it"
        );
        let planted = cells[3].split('`').skip(1).step_by(2);
        for name in planted {
            assert!(names.contains_key(name), "{invariant}: no mutant {name}");
        }
    }
}
