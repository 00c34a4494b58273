//! Keeps `docs/COMPATIBILITY.md` true: it names every test and no other, and
//! the versions that were tested.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/COMPATIBILITY.md")).unwrap()
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `file::name` of each test in the sources beside this one.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        // (The folder is about executors of others, which wait for crore.)
        if stem == "page" || path.is_dir() {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let after_attribute = text.split("#[test]\n").skip(1);
        let names = after_attribute.map(|rest| {
            let rest = rest.strip_prefix("fn ").expect("a function follows");
            &rest[..rest.find('(').unwrap()]
        });
        found.extend(names.map(|name| format!("{stem}::{name}")));
    }
    assert!(found.len() > 30, "only {found:?}");
    found
}

#[test]
fn every_test_is_on_the_page_and_no_other() {
    let page = page();
    let files: BTreeSet<String> = tests()
        .iter()
        .map(|test| test[..test.find("::").unwrap()].to_owned())
        .collect();
    let is_test = |word: &&str| {
        word.split_once("::").is_some_and(|(file, name)| {
            let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
            files.contains(file) && name.chars().all(plain)
        })
    };
    let named: BTreeSet<String> = quoted(&page).filter(is_test).map(str::to_owned).collect();
    assert_eq!(named, tests(), "left: the page, right: the tests");
}

#[test]
fn the_versions_are_those_that_were_tested() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut checked = 0;
    for row in page().lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells[2] == "version" {
            continue;
        }
        let (client, version) = (cells[1], cells[2]);
        if version == "Rust's own" {
            continue;
        }
        let Some(name) = quoted(client).next() else {
            assert!(version.starts_with("Debian's "), "{client}: {version}");
            continue;
        };
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&entry), "{name} is not {version}");
        checked += 1;
    }
    assert!(checked > 20, "only {checked} rows with a crate");
}
