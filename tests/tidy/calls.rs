//! Holds the hooks together: each function of libc that crore defines is declared
//! by `hook!`, has its row in the table of calls, and is named in a test.
//!
//! What has no row the compiler finds: its `look_up` is dead code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::text::{blank, words};
use crate::{collect, sources};

/// The shell, which alone may define a symbol of libc's.
const SHELL: &str = "src/hook/libc/mod.rs";
/// Rooms whose hooks are still to be declared by it.
const LEFT: [&str; 1] = ["src/hook/fd/"];
const TABLE: &str = "src/hook/table.rs";

#[test]
fn only_the_shell_defines_symbols() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| path != SHELL && !LEFT.iter().any(|room| path.starts_with(room)))
        .filter(|(_, text)| defines_symbols(text))
        .map(|(path, _)| path)
        .collect();
    assert!(found.is_empty(), "declare it by hook!: {found:?}");
}

fn defines_symbols(text: &str) -> bool {
    words(&blank(text)).any(|(_, word)| ["no_mangle", "export_name"].contains(&word))
}

#[test]
fn every_hook_is_named_in_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join(TABLE)).unwrap();
    let hooks = rows(&table);
    assert!(hooks.len() > 100, "only {hooks:?} found in {TABLE}");
    let mut files = Vec::new();
    collect(&root.join("tests"), &mut files);
    let tests: Vec<_> = files
        .iter()
        .filter(|path| !path.starts_with(root.join("tests/tidy")))
        .map(|path| blank(&fs::read_to_string(path).unwrap()))
        .collect();
    let named: BTreeSet<_> = tests
        .iter()
        .flat_map(|text| words(text).map(|(_, word)| word))
        .collect();
    let missing: Vec<_> = hooks
        .iter()
        .filter(|hook| !named.contains(hook.as_str()))
        .collect();
    assert!(missing.is_empty(), "no test calls {missing:?}");
}

/// The hooks in the table's rows: what stands in braces behind a path.
fn rows(text: &str) -> Vec<String> {
    let code = blank(text);
    let rows = code.split_once("\ntable! {").map_or("", |(_, rows)| rows);
    let lists = rows
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'));
    lists
        .flat_map(|(names, _)| names.split_whitespace().map(str::to_owned))
        .collect()
}

#[test]
fn symbols_and_rows_are_found() {
    assert!(defines_symbols(
        "#[unsafe(no_mangle)] extern \"C\" fn f() {}"
    ));
    assert!(!defines_symbols("// no_mangle\nfn f() {}"));
    let table = "macro_rules! table { () => {} }\n\ntable! {\n    net::x { a b }\n    \
                 #[cfg(x)]\n    y { c } \"{d}\" => \"e\";\n    \"f\" => \"g\";\n}\n";
    assert_eq!(rows(table), ["a", "b", "c"]);
}
