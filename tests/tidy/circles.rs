//! No circle between files: whoever follows the imports of a file never comes
//! back to it.
//!
//! An arrow is a path of the code (`use` or in place) that leads to an item of
//! another file, through the re-exports on the way. A `mod` line, a re-export
//! and code under `cfg(test)` are no arrows.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources;
use crate::text::{blank, test_items, words};

/// A file as a module: the names of its path (`["sched", "cx"]`).
pub(crate) type Module = Vec<String>;

#[test]
fn no_file_imports_itself_by_way_of_others() {
    let found = circles(&sources());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Each circle as one line: the files of it, with what ties them.
fn circles(files: &[(String, String)]) -> Vec<String> {
    let house = House::new(files);
    let arrows = house.arrows();
    let mut found = Vec::new();
    for circle in strongly_connected(&arrows) {
        let ties: Vec<_> = circle
            .iter()
            .flat_map(|from| arrows[from].iter().map(move |to| (from, to)))
            .filter(|(_, to)| circle.contains(*to))
            .map(|(from, to)| format!("{} -> {}", house.paths[from], house.paths[to]))
            .collect();
        found.push(format!("circle: {}", ties.join(", ")));
    }
    found
}

/// The files of a crate and what they name.
pub(crate) struct House {
    paths: BTreeMap<Module, String>,
    code: BTreeMap<Module, String>,
    /// What a module re-exports: name to the full path of the item.
    exports: BTreeMap<Module, BTreeMap<String, Module>>,
}

impl House {
    pub(crate) fn new(files: &[(String, String)]) -> Self {
        let (mut paths, mut code) = (BTreeMap::new(), BTreeMap::new());
        for (path, text) in files {
            let mut text = blank(text);
            for item in test_items(path, &text).into_iter().rev() {
                let blanks = " ".repeat(item.len());
                text.replace_range(item, &blanks);
            }
            paths.insert(module(path), path.clone());
            code.insert(module(path), text);
        }
        let mut house = Self {
            paths,
            code,
            exports: BTreeMap::new(),
        };
        for (module, text) in &house.code {
            let mut names = BTreeMap::new();
            for (exported, import) in imports(text) {
                if exported && let Some(full) = house.absolute(module, &import.path) {
                    names.insert(import.name, full);
                }
            }
            house.exports.insert(module.clone(), names);
        }
        house
    }

    /// The path of an item from the crate's root; `None` if it is another
    /// crate's.
    fn absolute(&self, from: &Module, path: &[String]) -> Option<Module> {
        let child = |name: &str| {
            let mut inner = from.clone();
            inner.push(name.to_owned());
            self.paths.contains_key(&inner).then_some(inner)
        };
        let (head, rest) = path.split_first()?;
        let mut full = match head.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => from[..from.len().checked_sub(1)?].to_vec(),
            name => child(name)?,
        };
        full.extend(rest.iter().cloned());
        Some(full)
    }

    /// The file in which the item at `full` is defined.
    fn home(&self, full: &[String], depth: usize) -> Option<Module> {
        let longest = (0..=full.len())
            .rev()
            .find(|&len| self.paths.contains_key(&full[..len]))?;
        let (file, rest) = full.split_at(longest);
        let reexported = rest.first().and_then(|name| self.exports[file].get(name));
        match reexported {
            Some(target) if depth < 8 => self.home(target, depth + 1),
            _ => Some(file.to_vec()),
        }
    }

    /// Which files each file imports from.
    pub(crate) fn arrows(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let mut arrows = BTreeMap::new();
        for (from, text) in &self.code {
            let imported = imports(text)
                .into_iter()
                .filter(|(exported, _)| !exported)
                .map(|(_, import)| import.path);
            let inline = inline_paths(text);
            let to: BTreeSet<_> = imported
                .chain(inline)
                .filter_map(|path| self.home(&self.absolute(from, &path)?, 0))
                .filter(|to| to != from)
                .collect();
            arrows.insert(from.clone(), to);
        }
        arrows
    }
}

fn module(path: &str) -> Module {
    let inner = path.strip_prefix("src/").unwrap().trim_end_matches(".rs");
    let mut names: Vec<_> = inner.split('/').map(str::to_owned).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib")) {
        names.pop();
    }
    names
}

/// One name that a `use` brings, and the path that it leads to.
struct Import {
    name: String,
    path: Vec<String>,
}

/// All `use`s of a text, whether re-exported (`pub use`) or not.
fn imports(code: &str) -> Vec<(bool, Import)> {
    let mut found = Vec::new();
    for (at, word) in words(code) {
        if word != "use" {
            continue;
        }
        let before = code[..at].trim_end();
        let start = before.rfind([';', '{', '}', ']']).map_or(0, |i| i + 1);
        let exported = before[start..].trim_start().starts_with("pub");
        let tree = &code[at + word.len()..];
        let tree = &tree[..tree.find(';').unwrap_or(tree.len())];
        let mut leaves = Vec::new();
        expand(tree.trim(), &[], &mut leaves);
        found.extend(leaves.into_iter().map(|import| (exported, import)));
    }
    found
}

/// The leaves of a `use` tree.
fn expand(tree: &str, prefix: &[String], leaves: &mut Vec<Import>) {
    let tree = tree.trim();
    let mut path = prefix.to_vec();
    let Some(open) = tree.find('{') else {
        let (tree, alias) = match tree.split_once(" as ") {
            Some((tree, alias)) => (tree, Some(alias.trim().to_owned())),
            None => (tree, None),
        };
        let names = tree.split("::").map(str::trim);
        path.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let last = path.last().cloned().unwrap_or_default();
        let name = alias.unwrap_or(last);
        leaves.push(Import { name, path });
        return;
    };
    let head = tree[..open].split("::").map(str::trim);
    path.extend(head.filter(|name| !name.is_empty()).map(str::to_owned));
    let group = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start) = (0, 0);
    for (i, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[start..i].trim().is_empty() {
                    expand(&group[start..i], &path, leaves);
                }
                start = i + 1;
            }
            _ => {}
        }
    }
}

/// Paths from `crate`, `super` or `self` that stand in the code itself.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut skip = 0;
    for (at, word) in words(code) {
        if word == "use" {
            skip = at + code[at..].find(';').unwrap_or(0);
        }
        if at < skip || !["crate", "super", "self"].contains(&word) {
            continue;
        }
        let end = code[at..]
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
            .map_or(code.len(), |len| at + len);
        let path = code[at..end].trim_end_matches(':');
        // `pub(crate)`, `self.field`.
        if path.contains("::") && !code[..at].ends_with("::") {
            found.push(path.split("::").map(str::to_owned).collect());
        }
    }
    found
}

/// The strongly connected components of more than one file (Tarjan).
fn strongly_connected(arrows: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<BTreeSet<Module>> {
    struct Search<'a> {
        arrows: &'a BTreeMap<Module, BTreeSet<Module>>,
        index: BTreeMap<&'a Module, usize>,
        low: BTreeMap<&'a Module, usize>,
        stack: Vec<&'a Module>,
        found: Vec<BTreeSet<Module>>,
    }
    impl<'a> Search<'a> {
        fn visit(&mut self, file: &'a Module) {
            let number = self.index.len();
            self.index.insert(file, number);
            self.low.insert(file, number);
            self.stack.push(file);
            for to in &self.arrows[file] {
                if !self.index.contains_key(to) {
                    self.visit(to);
                    let low = self.low[file].min(self.low[to]);
                    self.low.insert(file, low);
                } else if self.stack.contains(&to) {
                    let low = self.low[file].min(self.index[to]);
                    self.low.insert(file, low);
                }
            }
            if self.low[file] == self.index[file] {
                let at = self.stack.iter().position(|on| *on == file).unwrap();
                let circle: BTreeSet<_> = self.stack.drain(at..).cloned().collect();
                if circle.len() > 1 {
                    self.found.push(circle);
                }
            }
        }
    }
    let mut search = Search {
        arrows,
        index: BTreeMap::new(),
        low: BTreeMap::new(),
        stack: Vec::new(),
        found: Vec::new(),
    };
    for file in arrows.keys() {
        if !search.index.contains_key(file) {
            search.visit(file);
        }
    }
    search.found
}

#[test]
fn circles_are_found_through_re_exports() {
    let house = |files: &[(&str, &str)]| {
        let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        circles(&files.iter().map(own).collect::<Vec<_>>())
    };
    let parent = (
        "src/a/mod.rs",
        "mod x; mod y; pub(crate) use x::X; pub use y::Y as Z;",
    );
    let lib = ("src/lib.rs", "mod a; pub use a::Z;");
    for (x, y, circle) in [
        ("use super::y::Y;", "use crate::a::X;", true),
        (
            "use crate::{a::{Z, X}};",
            "fn f() { crate::a::x::X::new() }",
            true,
        ),
        ("fn f() -> crate::Z {}", "use super::X;", true),
        ("use crate::Z;", "", false),
        (
            "use super::y::Y;",
            "// crate::a::X\npub(crate) fn f() { self.x }",
            false,
        ),
        (
            "use super::y::Y;",
            "#[cfg(test)] mod tests { use crate::a::X; }",
            false,
        ),
    ] {
        let found = house(&[lib, parent, ("src/a/x.rs", x), ("src/a/y.rs", y)]);
        assert_eq!(found.len(), usize::from(circle), "{x} {y} {found:?}");
    }
    let found = house(&[
        ("src/b.rs", "mod c; use c::C; struct B;"),
        ("src/b/c.rs", "use super::B;"),
    ]);
    assert_eq!(
        found,
        ["circle: src/b.rs -> src/b/c.rs, src/b/c.rs -> src/b.rs"]
    );
}
