//! Few test binaries: each is linked anew whenever a line of the library
//! changes. A file of tests joins the folder of the promise that it is about.

use std::fs;
use std::path::Path;

const MOST: usize = 16;

#[test]
fn there_are_few_test_binaries() {
    let found = binaries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    assert!(found.len() > 5, "only {found:?} found under tests/");
    assert!(
        found.len() <= MOST,
        "{} test binaries, over {MOST}: {found:?}",
        found.len()
    );
}

/// What cargo makes a binary of: `NAME.rs`, and `NAME/main.rs` where the folder
/// is no package of its own.
fn binaries(tests: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(tests).unwrap() {
        let path = entry.unwrap().path();
        let file = path.extension().is_some_and(|extension| extension == "rs");
        let folder = path.join("main.rs").exists() && !path.join("Cargo.toml").exists();
        if file || folder {
            found.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

#[test]
fn binaries_are_counted_as_cargo_does() {
    let folder = std::env::temp_dir().join(format!("crore-tidy-{}", std::process::id()));
    for name in ["one.rs", "two/main.rs", "helpers/mod.rs", "package/main.rs"] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    fs::write(folder.join("package/Cargo.toml"), "").unwrap();
    let found = binaries(&folder);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(found, ["one", "two"]);
}
