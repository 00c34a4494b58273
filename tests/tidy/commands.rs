//! Holds the commands that pages and scripts give: the binaries, packages, rooms and
//! tests that they name are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::mutants::mutants;
use crate::pages::{pages, root};
use crate::{collect, is_room, sources};

/// Where a long name with underscores is that of a test.
const TESTS: [&str; 4] = [
    "docs/TESTING.md",
    "docs/SAFETY.md",
    "scripts/asan.sh",
    "src/sched/README.md",
];

#[test]
fn commands_name_what_exists() {
    // The package that is published has no packages inside, nor what they need.
    if !root().join("fuzz").exists() {
        return;
    }
    let known = Known::all();
    let texts = pages().into_iter().chain(scripts());
    let found: Vec<_> = texts
        .flat_map(|(path, text)| {
            let mut missing = known.missing(&text);
            if TESTS.iter().any(|name| path.ends_with(name)) {
                missing.extend(known.missing_tests(&text));
            }
            missing
                .into_iter()
                .map(move |what| format!("{}: {what}", path.display()))
        })
        .collect();
    assert!(
        found.is_empty(),
        "these name what is not there:\n{}",
        found.join("\n")
    );
}

fn scripts() -> impl Iterator<Item = (PathBuf, String)> {
    let files = fs::read_dir(root().join("scripts")).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.is_file())
        .chain([root().join(".ci/run")])
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
}

/// What commands may name.
#[derive(Default)]
struct Known {
    /// Test binaries, examples, programs and packages.
    targets: BTreeSet<String>,
    /// Files of `src`, as paths of modules.
    modules: BTreeSet<String>,
    /// Functions, and mutants.
    functions: BTreeSet<String>,
    files: Vec<String>,
}

impl Known {
    fn all() -> Self {
        let mut known = Self::default();
        known.functions.extend(mutants().into_keys());
        for (path, text) in sources() {
            known.functions.extend(functions(&text));
            let module = path.trim_start_matches("src/").trim_end_matches(".rs");
            let module = module.trim_end_matches("/mod").replace('/', "::");
            known.modules.insert(module);
            known.files.push(path);
        }
        let mut files = Vec::new();
        for folder in ["tests", "benches", "crates", "examples", "fuzz"] {
            collect(&root().join(folder), &mut files);
        }
        for file in files.iter().filter(|file| !is_built(file)) {
            let text = fs::read_to_string(file).unwrap();
            known.functions.extend(functions(&text));
            known.targets.extend(target(file));
            let path = file.strip_prefix(root()).unwrap();
            known.files.push(path.to_str().unwrap().to_owned());
        }
        let packages = [
            "",
            "benches",
            "benches/counted",
            "benches/peers",
            "benches/push",
            "examples/http",
            "examples/push",
            "examples/raft",
            "tests/aborts",
        ];
        let tests = [
            "tests/cases",
            "tests/clients",
            "tests/kernels",
            "tests/loaded",
        ];
        let crates = fs::read_dir(root().join("crates")).unwrap();
        let crates = crates.map(|entry| entry.unwrap().path());
        let named = packages.into_iter().chain(tests);
        for package in named.map(|name| root().join(name)).chain(crates) {
            let manifest = package.join("Cargo.toml");
            let text = fs::read_to_string(manifest).unwrap();
            let names = text
                .lines()
                .filter_map(|line| line.strip_prefix("name = \""));
            known
                .targets
                .extend(names.map(|name| name.trim_end_matches('"').to_owned()));
        }
        known
    }

    /// What a text names and is not there.
    fn missing(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let words: Vec<_> = split(text).collect();
        for pair in words.windows(2) {
            let named = ["--test", "--bin", "--example", "-p"].contains(&pair[0]);
            let literal =
                pair[1].starts_with(|c: char| c.is_ascii_lowercase()) && !pair[1].contains('/');
            if named && literal && !self.targets.contains(pair[1]) {
                found.push(format!("{} {}", pair[0], pair[1]));
            }
        }
        for path in words {
            let file = path.ends_with(".rs") && path.bytes().all(is_of_path) && path != "docs.rs";
            if file && !self.has_file(path) {
                found.push(path.to_owned());
            }
            let rooms = path.split_once("::").is_some_and(|(room, _)| is_room(room));
            if rooms && path.bytes().all(is_of_path) && !self.has_module(path) {
                found.push(path.to_owned());
            }
        }
        found
    }

    /// Tests that a text names by their whole names, or by how they begin.
    fn missing_tests(&self, text: &str) -> Vec<String> {
        let is_name = |word: &&str| {
            let name = word.trim_end_matches("_…");
            let letters = name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
            letters && name.matches('_').count() >= 3
        };
        let there = |word: &&str| match word.strip_suffix("_…") {
            Some(begin) => {
                let mut after = self.functions.range(begin.to_owned()..);
                after.next().is_some_and(|found| found.starts_with(begin))
            }
            None => self.functions.contains(*word),
        };
        split(text)
            .filter(is_name)
            .filter(|word| !there(word))
            .map(str::to_owned)
            .collect()
    }

    fn has_file(&self, name: &str) -> bool {
        let name = name.trim_start_matches("./").trim_start_matches("../");
        self.files
            .iter()
            .any(|file| file == name || file.ends_with(&format!("/{name}")))
    }

    /// A module, or what stands in one.
    fn has_module(&self, path: &str) -> bool {
        let (outer, last) = path.rsplit_once("::").expect("a path");
        let inner = format!("{path}::");
        self.modules
            .iter()
            .any(|module| module == path || module.starts_with(&inner))
            || self.functions.contains(last)
            || last.starts_with(|c: char| c.is_ascii_uppercase())
            || ["bench", "tests", "loom"].contains(&last) && self.modules.contains(outer)
    }
}

/// What may be a name, a path or an option.
fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "`'\"();|\\".contains(c))
        .map(|word| word.trim_end_matches([',', '.', ':']))
        .filter(|word| !word.is_empty())
}

fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_:/.-".contains(&byte)
}

fn is_built(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "target")
}

/// The names of the functions that a text defines.
fn functions(text: &str) -> impl Iterator<Item = String> {
    text.split("fn ").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        (end > 0).then(|| rest[..end].to_owned())
    })
}

/// What cargo calls the binary whose root this may be.
fn target(file: &Path) -> Option<String> {
    let file = if file.ends_with("main.rs") || file.ends_with("mod.rs") {
        file.parent()?
    } else {
        file
    };
    Some(file.file_stem()?.to_str()?.to_owned())
}

#[test]
fn missing_names_are_found() {
    let of = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let known = Known {
        targets: of(&["hook", "crore-cases"]),
        modules: of(&["task::cell", "stack"]),
        functions: of(&["a_test_with_a_name"]),
        files: vec!["tests/hook/main.rs".to_owned()],
    };
    for (text, expected) in [
        ("`cargo test --test hook a`, `-p crore-cases`", &[][..]),
        ("`cargo test --test hooks` `-p $NAME`", &["--test hooks"]),
        ("`task::cell`, task::Packet, stack::tests::", &[]),
        (
            "--lib -- task::alias stack::none",
            &["task::alias", "stack::none"],
        ),
        ("`hook/main.rs` (`main.rs`)", &[]),
        ("`hook/polls.rs`", &["hook/polls.rs"]),
    ] {
        assert_eq!(known.missing(text), expected, "{text}");
    }
    for (text, expected) in [
        (
            "`a_test_with_a_name`, `a_test_with_…` in `of_no_test`",
            &[][..],
        ),
        ("`a_test_without_a_name`", &["a_test_without_a_name"]),
        ("`the_test_without_a_…`", &["the_test_without_a_…"]),
    ] {
        assert_eq!(known.missing_tests(text), expected, "{text}");
    }
}
