//! Holds the pages: what they name exists, and figures that are said twice are
//! those of docs/MEASURED.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page of the repository and the READMEs beside the sources, but not the
/// changelog, which may name what is gone.
pub(crate) fn pages() -> Vec<(PathBuf, String)> {
    fn collect(dir: &Path, pages: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            } else if path.is_dir() && !path.ends_with("target") {
                collect(&path, pages);
            }
        }
    }
    let mut pages = Vec::new();
    for dir in ["src", "docs", "tests", "benches", "examples"] {
        collect(&root().join(dir), &mut pages);
    }
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ] {
        let path = root().join(name);
        pages.push((name.into(), fs::read_to_string(path).unwrap()));
    }
    pages
}

#[test]
fn pages_name_what_exists() {
    // The package that is published has no packages inside, nor what they need.
    if !root().join("fuzz").exists() {
        return;
    }
    let pages = pages();
    assert!(pages.len() > 10, "only {} pages found", pages.len());
    let mut found = Vec::new();
    for (path, text) in &pages {
        let dir = path.parent().unwrap();
        let exists = |name: &str| {
            let places = [Path::new(""), Path::new("src"), dir];
            places
                .iter()
                .any(|place| root().join(place).join(name).exists())
        };
        let missing = files(text).filter(|name| !exists(name));
        found.extend(missing.map(|name| format!("{}: {name}", path.display())));
    }
    assert!(
        found.is_empty(),
        "these pages name what is not there:\n{}",
        found.join("\n")
    );
}

/// The files that a page names in backticks, and those that it links to.
fn files(text: &str) -> impl Iterator<Item = &str> {
    const FOLDERS: [&str; 9] = [
        "src/",
        "tests/",
        "docs/",
        "scripts/",
        "benches/",
        "examples/",
        "fuzz/",
        "sys/",
        "hook/",
    ];
    let named = text.split('`').skip(1).step_by(2).filter(|name| {
        let plain = !name.contains([' ', '*', '<', '…', '\n']);
        let file = name.contains('/') && (name.ends_with(".rs") || name.ends_with(".md"));
        plain && (file || FOLDERS.iter().any(|folder| name.starts_with(folder)))
    });
    let linked = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let defined = text
        .lines()
        .filter_map(|line| line.strip_prefix('[')?.split_once("]: "))
        .map(|(_, to)| to);
    let links = linked
        .chain(defined)
        .filter(|to| !to.starts_with("http") && !to.contains("::"));
    named
        .chain(links.map(|to| to.split('#').next().unwrap()))
        .filter(|name| !name.is_empty())
}

#[test]
fn the_readme_quotes_what_was_measured() {
    let text = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let wrong = misquoted(&text("README.md"), &text("docs/MEASURED.md"));
    assert!(
        wrong.is_empty(),
        "not in docs/MEASURED.md:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_readmes_rows_of_programs_are_those_that_were_measured() {
    let text = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (readme, measured) = (text("README.md"), text("docs/MEASURED.md"));
    let (_, part) = readme
        .split_once("## Threads of programs")
        .expect("it has this part");
    let (part, _) = part.split_once("\n## ").expect("and others after it");
    let rows: Vec<_> = part.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 3, "{rows:?}");
    let push = readme.lines().filter(|line| line.starts_with("| push: "));
    let push: Vec<_> = push.collect();
    assert!(push.len() > 2, "{push:?}");
    let wrong: Vec<_> = [rows, push]
        .concat()
        .into_iter()
        .filter(|row| !measured.contains(row))
        .collect();
    assert!(
        wrong.is_empty(),
        "not in docs/MEASURED.md:\n{}",
        wrong.join("\n")
    );
}

/// Figures of the README's tables of measurements that are not those of the page.
fn misquoted(readme: &str, measured: &str) -> Vec<String> {
    let (_, readme) = readme.split_once("## Measured").expect("the README's part");
    let figures = medians(measured);
    let mut wrong = Vec::new();
    let mut contenders = Vec::new();
    for row in readme.lines().filter(|line| line.starts_with("| ")) {
        let cells = cells(row);
        if cells[0].is_empty() {
            contenders = cells;
        } else if cells[0].starts_with('`') {
            if !measured.contains(row) {
                wrong.push(row.to_owned());
            }
        } else if cells[0] != "example" {
            for (contender, said) in contenders.iter().zip(&cells).skip(1) {
                let measured = figures.get(&(cells[0], *contender)).copied().unwrap_or("");
                if *said != measured {
                    wrong.push(format!(
                        "{}, {contender}: {said} instead of {measured}",
                        cells[0]
                    ));
                }
            }
        }
    }
    wrong
}

/// The medians of the part "Beside others", by what and by whom.
fn medians(measured: &str) -> BTreeMap<(&str, &str), &str> {
    /// What the README calls the processor time of the servers.
    const ECHOES: [(&str, &str); 2] = [
        (
            "**100 connections, 64 bytes**",
            "echo, 100 connections, µs of processor time",
        ),
        (
            "**10000 connections, 64 bytes**",
            "echo, 10000 connections, µs of processor time",
        ),
    ];
    let mut medians = BTreeMap::new();
    let (mut contenders, mut echo) = (Vec::new(), None);
    for line in measured.lines() {
        if line.starts_with("**") {
            echo = Some(
                ECHOES
                    .iter()
                    .find(|(head, _)| line.starts_with(head))
                    .map(|(_, what)| *what),
            );
        }
        if !line.starts_with("| ") {
            continue;
        }
        let cells = cells(line);
        match echo {
            None if cells[0].is_empty() => contenders = cells,
            None => {
                for (who, cell) in contenders.iter().zip(&cells).skip(1) {
                    medians.insert((cells[0], *who), cell.split(':').next().unwrap());
                }
            }
            Some(Some(what)) => {
                medians.insert((what, cells[0]), cells[1].split(':').next().unwrap());
            }
            Some(None) => {}
        }
    }
    medians
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn other_figures_are_found() {
    let measured = "| | crore | go |\n|---|---|---|\n| yield, ns | 10.4: 1.00 (1–1) | 62.1: 6 |\n\
        **100 connections, 64 bytes**, 3 rounds\n\n| | µs |\n|---|---|\n| go | 3.88: 1.3 |\n\
        | `million` | each | 359 bytes |\n";
    let readme = |yields: &str, echo: &str, each: &str| {
        format!(
            "## Measured\n| | crore | go |\n|---|---|---|\n| yield, ns | {yields} | 62.1 |\n\
             | echo, 100 connections, µs of processor time | | {echo} |\n\
             | example | what | figure |\n| `million` | each | {each} |\n"
        )
    };
    assert_eq!(
        misquoted(&readme("10.4", "3.88", "359 bytes"), measured),
        Vec::<String>::new()
    );
    for wrong in [
        readme("9.9", "3.88", "359 bytes"),
        readme("10.4", "3.80", "359 bytes"),
        readme("10.4", "3.88", "300 bytes"),
    ] {
        assert_eq!(misquoted(&wrong, measured).len(), 1, "{wrong}");
    }
}

#[test]
fn names_of_files_are_found() {
    let text = "`src/a.rs`, `a b/c`, `x/y.md`, `read`, `tests/locks_*.rs`, [one](docs/X.md), \
        [two](https://host/y), [three]\n\n[three]: ../Z.md#part\n[four]: crate::hook\n";
    let found: Vec<&str> = files(text).collect();
    assert_eq!(found, ["src/a.rs", "x/y.md", "docs/X.md", "../Z.md"]);
}
