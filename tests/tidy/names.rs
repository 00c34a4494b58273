//! One name, one meaning: no type's name is defined twice under `src/`, outside
//! of tests.

use std::collections::BTreeMap;

use crate::sources;
use crate::text::{blank, item_length, test_items, words};

/// Names with several definitions: of which each build has one, or that are said with
/// their modules'.
const DOUBLES: [(&str, usize, &str); 8] = [
    ("FpControl", 2, "one processor's, and the other's"),
    ("Link", 2, "a list's, and a simulated network's"),
    ("Lock", 2, "the shim's, and the models'"),
    (
        "Receiver",
        4,
        "a channel's, and those of `oneshot`, `broadcast`, `watch`",
    ),
    ("Sender", 4, "the same"),
    ("Parker", 2, "the shim's, and the models'"),
    (
        "ThreadPointer",
        2,
        "where there are TLS blocks, and elsewhere",
    ),
    ("TlsBlock", 2, "where there are TLS blocks, and elsewhere"),
];

#[test]
fn no_type_name_means_two_things() {
    let mut found = twice(&sources());
    for (name, count, why) in DOUBLES {
        let places = found.remove(name).unwrap_or_default();
        assert_eq!(places.len(), count, "{name} ({why}): {places:?}");
    }
    assert!(found.is_empty(), "defined twice: {found:#?}");
}

/// Types that are defined more than once, and where.
fn twice(files: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut places = BTreeMap::<String, Vec<String>>::new();
    for (path, text) in files {
        let code = blank(text);
        for (at, name) in types(path, &code) {
            let line = 1 + code[..at].matches('\n').count();
            let place = format!("{path}:{line}");
            places.entry(name.to_owned()).or_default().push(place);
        }
    }
    places.retain(|_, places| places.len() > 1);
    places
}

/// The names of types that are defined in a file, with their places.
fn types<'a>(path: &str, code: &'a str) -> Vec<(usize, &'a str)> {
    let tests = test_items(path, code);
    // A `type` in here is associated: it belongs to the trait.
    let traits: Vec<_> = words(code)
        .filter(|(_, word)| ["impl", "trait"].contains(word))
        .map(|(at, _)| at..at + item_length(&code[at..]))
        .collect();
    let keyword = |&(at, word): &(usize, &str)| match word {
        "struct" | "enum" | "union" | "trait" => true,
        "type" => !traits.iter().any(|item| item.contains(&at)),
        _ => false,
    };
    words(code)
        .filter(keyword)
        .filter(|(at, _)| !tests.iter().any(|item| item.contains(at)))
        .filter_map(|(at, word)| {
            // None in a macro's `enum $name`.
            let rest = code[at + word.len()..].trim_start();
            let (offset, name) = words(rest).next()?;
            (offset == 0).then_some((at, name))
        })
        .collect()
}

#[test]
fn types_are_found() {
    let found = |text: &str| {
        let code = blank(text);
        let names = types("src/a.rs", &code).into_iter();
        names.map(|(_, name)| name.to_owned()).collect::<Vec<_>>()
    };
    for (text, names) in [
        (
            "pub(crate) struct A<T>(T); enum B {} union C {} unsafe trait D {} type E = u8;",
            &["A", "B", "C", "D", "E"][..],
        ),
        (
            "impl Iterator for A { type Item = u8; } trait F { type G; }",
            &["F"],
        ),
        ("fn f() { struct H; impl Drop for H {} }", &["H"]),
        (
            "// struct I;\nmacro_rules! m { () => { enum $name {} } }",
            &[],
        ),
        ("#[cfg(test)] mod tests { struct J; }", &[]),
    ] {
        assert_eq!(found(text), names, "{text}");
    }
    let own = |(path, text): (&str, &str)| (path.to_owned(), text.to_owned());
    let files = [
        ("src/a.rs", "struct A;\nstruct B;"),
        ("src/b.rs", "enum B {}"),
        ("src/b/tests.rs", "struct A;"),
    ];
    let found = twice(&files.map(own));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["B"]);
    assert_eq!(found["B"], ["src/a.rs:2", "src/b.rs:1"]);
}
