//! The kernel is at the bottom: nobody but `hook` calls a function of libc's that
//! crore hooks, since that call would come back up through the linker. The floors
//! below make the bare system call (`sys/syscall.rs`).

use std::collections::BTreeSet;

use crate::sources;
use crate::text::{blank, first_names, test_items, words};

#[test]
fn hooked_functions_are_called_by_hooks_only() {
    let files = sources();
    let names = hooked(&files);
    for name in ["close", "poll", "fcntl", "syscall", "pthread_mutex_lock"] {
        assert!(names.contains(name), "{name} is hooked, but not found");
    }
    let found = callers(&files, &names);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The functions of libc's that `hook` defines: as the sources say, or where a
/// macro says so the rows of the table.
fn hooked(files: &[(String, String)]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (path, text) in files.iter().filter(|(path, _)| is_hook(path)) {
        let code = blank(text);
        if path == "src/hook/table.rs" {
            let rows = code.rsplit("table!").next().unwrap_or_default();
            names.extend(words(rows).map(|(_, word)| word.to_owned()));
        }
        // What stands between is blanked: `extern "C" fn`.
        for (at, _) in words(&code).filter(|(_, word)| *word == "extern") {
            let rest = code[at + "extern".len()..].trim_start();
            // No name follows in a type.
            let name = rest
                .strip_prefix("fn ")
                .and_then(|rest| rest.split('(').next());
            names.extend(name.map(|name| name.trim().to_owned()));
        }
    }
    names
}

/// Who names one of them as libc's, outside of `hook` and of tests.
fn callers(files: &[(String, String)], names: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        if is_hook(path) || path.ends_with("testing.rs") {
            continue;
        }
        let code = blank(text);
        let tests = test_items(path, &code);
        let places = words(&code)
            .filter(|(at, word)| *word == "libc" && !tests.iter().any(|item| item.contains(at)));
        for (at, word) in places {
            for name in first_names(&code[at + word.len()..]) {
                if names.contains(name) {
                    let line = 1 + text[..at].matches('\n').count();
                    found.push(format!("{path}:{line}: libc::{name} is hooked: use sys!"));
                }
            }
        }
    }
    found
}

fn is_hook(path: &str) -> bool {
    path.starts_with("src/hook/")
}

#[test]
fn calls_of_hooked_functions_are_found() {
    let hooks = "#[unsafe(no_mangle)] unsafe extern \"C\" fn poll(n: c_int) -> c_int {}\n\
        hook!(next, unsafe extern \"C-unwind\" fn pthread_once() {});";
    let found = |path: &str, text: &str| {
        let own = |(path, text): (&str, &str)| (path.to_owned(), text.to_owned());
        let files = [("src/hook/a.rs", hooks), (path, text)].map(own);
        callers(&files, &hooked(&files)).len()
    };
    for text in [
        "fn f() { unsafe { libc::poll(p, 1, 0) } }",
        "use libc::{c_int, poll};",
        "use libc::pthread_once;",
    ] {
        assert_eq!(found("src/sys/ready.rs", text), 1, "{text}");
        assert_eq!(found("src/hook/poll/mod.rs", text), 0, "{text}");
        let test = format!("#[cfg(test)] mod tests {{ {text} }}");
        assert_eq!(found("src/sys/ready.rs", &test), 0, "{test}");
    }
    for text in [
        "fn f() { sys!(SYS_ppoll, p, 1); unsafe { libc::madvise(p, 1, 0) } }",
        "use libc::pollfd; // libc::poll",
    ] {
        assert_eq!(found("src/sys/ready.rs", text), 0, "{text}");
    }
}
