//! Holds the hooks together: each function of libc that crore defines is declared
//! by `hook!`, has its row in the table of calls, and is named in a test. And only
//! hooks call one of them: a call of the floors below would come back up through
//! the linker; they make the bare system call (`sys/syscall.rs`), and neither read
//! files nor print by way of std.
//!
//! What has no row the compiler finds: its `look_up` is dead code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::text::{blank, first_names, test_items, words};
use crate::{collect, floor, module, sources};

/// The shell, which alone may define a symbol of libc's.
const SHELL: &str = "src/hook/libc/mod.rs";
const TABLE: &str = "src/hook/table.rs";

/// What of std calls hooked functions and need not be used below the hooks.
const OF_STD: [&str; 5] = ["fs", "print", "println", "eprint", "eprintln"];

/// Wanted: what stands in for libc's clock (libfaketime, a simulation) is to be asked.
const WANTED: (&str, &str) = ("src/sys/clock.rs", "clock_gettime");

#[test]
fn only_the_shell_defines_symbols() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| path != SHELL && defines_symbols(text))
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
    let hooks = hooks();
    let missing: Vec<_> = hooks
        .iter()
        .filter(|hook| !named.contains(hook.as_str()))
        .collect();
    assert!(missing.is_empty(), "no test calls {missing:?}");
}

#[test]
fn hooked_functions_are_called_by_hooks_only() {
    let found = callers(&sources(), &hooks());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The functions of libc's that crore defines.
fn hooks() -> BTreeSet<String> {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    let hooks = rows(&fs::read_to_string(table).unwrap());
    for name in ["close", "poll", "fcntl", "syscall", "pthread_mutex_lock"] {
        assert!(hooks.contains(name), "{name} is not found in {TABLE}");
    }
    hooks
}

/// The hooks in the table's rows: what stands in braces behind a path.
fn rows(text: &str) -> BTreeSet<String> {
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

/// Those of simulations, which `interposed.rs` names once more: libc's own elsewhere.
#[test]
fn the_hooks_of_simulations_are_known_where_interposers_are_said() {
    let read = |file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        fs::read_to_string(path).unwrap()
    };
    let table = read(TABLE);
    let row = table.split_once("\n    simulated {").unwrap().1;
    let row = row.split_once('}').unwrap().0;
    let text = read("src/hook/interposed.rs");
    let list = text.split_once("FOR_SIMULATIONS: ").unwrap().1;
    let list = list
        .split_once("= [")
        .unwrap()
        .1
        .split_once("];")
        .unwrap()
        .0;
    let listed: Vec<_> = list.split('"').skip(1).step_by(2).collect();
    assert_eq!(listed, row.split_whitespace().collect::<Vec<_>>());
}

/// Where one of them is named as libc's outside of `hook`, or what std has of them
/// below it; tests aside.
fn callers(files: &[(String, String)], hooks: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        // Whole files for tests, which their `mod` line says.
        let for_tests = ["testing.rs", "bench.rs", "fuzz"];
        if path.starts_with("src/hook/") || for_tests.iter().any(|name| path.contains(name)) {
            continue;
        }
        let code = blank(text);
        let tests = test_items(path, &code);
        let is_low = floor(module(path)) < floor("hook");
        for (at, word) in words(&code) {
            let rest = &code[at + word.len()..];
            let found_here: Vec<&str> = match word {
                _ if tests.iter().any(|item| item.contains(&at)) => continue,
                "libc" => first_names(rest),
                _ if is_low && OF_STD.contains(&word) => vec![word],
                _ => continue,
            };
            // A type has this name, too.
            let is_type = |name: &str| name == "sigaction" && !rest.starts_with("::sigaction(");
            let hooked = |name: &&str| word != "libc" || hooks.contains(*name) && !is_type(name);
            let unwanted = |name: &&str| (path.as_str(), *name) != WANTED;
            for name in found_here.into_iter().filter(hooked).filter(unwanted) {
                let line = 1 + text[..at].matches('\n').count();
                found.push(format!("{path}:{line}: {name} ends in a hook: use sys!"));
            }
        }
    }
    found
}

#[test]
fn symbols_and_rows_are_found() {
    assert!(defines_symbols(
        "#[unsafe(no_mangle)] extern \"C\" fn f() {}"
    ));
    assert!(!defines_symbols("// no_mangle\nfn f() {}"));
    let table = "macro_rules! table { () => {} }\n\ntable! {\n    net::x { a b }\n    \
                 #[cfg(x)]\n    y { c } \"{d}\" => \"e\";\n    \"f\" => \"g\";\n}\n";
    assert_eq!(rows(table), ["a", "b", "c"].map(str::to_owned).into());
}

#[test]
fn calls_of_hooked_functions_are_found() {
    let hooks = ["poll", "pthread_once"].map(str::to_owned).into();
    let found = |path: &str, text: &str| callers(&[(path.into(), text.into())], &hooks).len();
    for text in [
        "fn f() { unsafe { libc::poll(p, 1, 0) } }",
        "use libc::{c_int, poll};",
        "use libc::pthread_once;",
        "use std::{fs, ptr};",
        "fn f() { eprintln!(\"\") }",
    ] {
        assert_eq!(found("src/sys/ready.rs", text), 1, "{text}");
        assert_eq!(found("src/hook/poll/mod.rs", text), 0, "{text}");
        let test = format!("#[cfg(test)] mod tests {{ {text} }}");
        assert_eq!(found("src/sys/ready.rs", &test), 0, "{test}");
    }
    assert_eq!(found("src/scope/mod.rs", "use std::fs;"), 0);
    for text in [
        "fn f() { sys!(SYS_ppoll, p, 1); unsafe { libc::madvise(p, 1, 0) } }",
        "use libc::pollfd; // libc::poll",
    ] {
        assert_eq!(found("src/sys/ready.rs", text), 0, "{text}");
    }
}
