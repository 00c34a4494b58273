//! The floors inside a room: a file imports only from folders of its own floor
//! of the room and of those below.

use crate::circles::House;
use crate::sources;

/// A room, and its folders and files from the lowest floor up. What is not
/// named stands on top.
const ROOMS: [(&str, &[&[&str]]); 1] = [(
    "hook",
    &[
        &["libc"],
        &["fd"],
        &["wait"],
        &[
            "net", "files", "poll", "process", "futex", "stdio", "threads",
        ],
    ],
)];

#[test]
fn the_floors_inside_a_room_hold() {
    let found = upward(&sources());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The imports that lead up inside a room.
fn upward(files: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (from, targets) in House::new(files).arrows() {
        for to in targets {
            let floors = floor(&from).zip(floor(&to));
            if from.first() == to.first() && floors.is_some_and(|(from, to)| to > from) {
                found.push(format!("{} imports {}", from.join("::"), to.join("::")));
            }
        }
    }
    found
}

/// The floor of a file inside its room; `None` where a room has none.
fn floor(module: &[String]) -> Option<usize> {
    let (_, floors) = ROOMS
        .iter()
        .find(|(room, _)| module.first().is_some_and(|m| m == room))?;
    let Some(inner) = module.get(1) else {
        return Some(floors.len());
    };
    let at = floors
        .iter()
        .position(|names| names.contains(&inner.as_str()));
    Some(at.unwrap_or(floors.len()))
}

#[test]
fn every_folder_that_is_named_exists() {
    let files = sources();
    for (room, floors) in ROOMS {
        for name in floors.iter().copied().flatten() {
            let inside = format!("src/{room}/{name}");
            assert!(
                files.iter().any(|(path, _)| path.starts_with(&inside)),
                "no {inside}"
            );
        }
    }
}

#[test]
fn upward_imports_inside_a_room_are_found() {
    let found = |path: &str, text: &str| {
        let file = |(path, text): (&str, &str)| (path.to_owned(), text.to_owned());
        let others = [
            (
                "src/hook/mod.rs",
                "mod net; mod fd; mod libc; pub(crate) fn f() {}",
            ),
            ("src/hook/net/mod.rs", "mod connect;"),
            ("src/hook/libc/mod.rs", "mod next;"),
            ("src/hook/fd/mod.rs", "mod cache;"),
            ("src/sched/mod.rs", ""),
        ];
        upward(
            &others
                .map(file)
                .into_iter()
                .chain([file((path, text))])
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        found("src/hook/fd/cache.rs", "use crate::hook::net::connect::x;"),
        ["hook::fd::cache imports hook::net"]
    );
    assert_eq!(
        found("src/hook/libc/next.rs", "fn f() { crate::hook::f() }"),
        ["hook::libc::next imports hook"]
    );
    let fine = "use crate::hook::{fd::cache, libc::next}; use crate::sched::CurrentTask;";
    assert_eq!(found("src/hook/net/connect.rs", fine), Vec::<String>::new());
}
