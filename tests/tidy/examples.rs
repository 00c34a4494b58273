//! Holds the documentation: each public type, trait, function and macro has an
//! example. `unreachable_pub` sees to it that what says `pub` is public.

use crate::sources;
use crate::text::{blank, test_items};

/// Public for the compiler's sake: nobody outside can name them.
const SEALED: [&str; 2] = ["Operation", "SelectContext"];

#[test]
fn what_is_public_has_an_example() {
    let files = sources();
    let found: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| without_example(path, text))
        .collect();
    assert!(
        found.is_empty(),
        "no example in the documentation of\n{}",
        found.join("\n")
    );
}

/// The public items of a file that have none, as `path:line: name`.
fn without_example(path: &str, text: &str) -> Vec<String> {
    let code = blank(text);
    let tests = test_items(path, &code);
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut start = 0;
    for (number, line) in code.lines().enumerate() {
        let at = start;
        start += line.len() + 1;
        let Some(name) = public_name(line, &lines[..number]) else {
            continue;
        };
        let hidden = tests.iter().any(|item| item.contains(&at))
            || SEALED.contains(&name)
            || name.starts_with("__")
            || lines[..number].last() == Some(&"#[doc(hidden)]");
        let above = lines[..number].iter().rev();
        // Attributes may stand between an item and its documentation.
        let mut docs = above.take_while(|line| !line.is_empty() && !line.starts_with('}'));
        if !hidden && !docs.any(|line| line.starts_with("/// ```")) {
            found.push(format!("{path}:{}: {name}", number + 1));
        }
    }
    found
}

/// The name of the public type, trait, function or macro that a line of code begins.
fn public_name<'a>(line: &'a str, above: &[&str]) -> Option<&'a str> {
    let named = |rest: &'a str| {
        rest.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
    };
    if let Some(rest) = line.strip_prefix("macro_rules! ") {
        let exported = above.last().is_some_and(|line| *line == "#[macro_export]");
        return exported.then(|| named(rest)).flatten();
    }
    let mut words = line.strip_prefix("pub ")?;
    loop {
        let (word, rest) = words.split_once(' ')?;
        match word {
            "struct" | "enum" | "union" | "trait" | "fn" => return named(rest),
            "unsafe" | "async" | "const" | "extern" => words = rest,
            _ => return None,
        }
    }
}

#[test]
fn items_without_examples_are_found() {
    let example = "/// Does it.\n///\n/// ```\n/// f();\n/// ```\n";
    for item in [
        "pub fn f() {}",
        "pub unsafe fn f() {}",
        "#[inline]\npub const fn f() {}",
        "#[derive(Debug)]\npub struct f {",
        "pub enum f {",
        "#[macro_export]\nmacro_rules! f {",
    ] {
        let plain = format!("{example}fn other() {{}}\n\n/// Does it.\n{item}\n");
        let line = plain.lines().count();
        assert_eq!(
            without_example("src/x.rs", &plain),
            [format!("src/x.rs:{line}: f")],
            "{plain}"
        );
        let good = format!("{example}{item}\n");
        assert_eq!(
            without_example("src/x.rs", &good),
            Vec::<String>::new(),
            "{good}"
        );
    }
    for item in [
        "pub(crate) fn f() {}",
        "fn f() {}",
        "pub use a::b;",
        "pub mod m;",
        "    pub fn method() {}",
        "macro_rules! f {",
        "#[cfg(test)]\nmod tests {\npub fn f() {}\n}",
    ] {
        assert_eq!(
            without_example("src/x.rs", item),
            Vec::<String>::new(),
            "{item}"
        );
    }
}
