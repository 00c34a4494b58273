//! The promise: in a library that is loaded at run time hooks work as in a program, if
//! it is linked for it; if not, building a runtime says how to.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo put a library: beside this program, or near.
fn built(library: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let deps = deps.parent().unwrap();
    let place = deps.join("../examples").join(library);
    let found = [deps.join(library), place]
        .into_iter()
        .find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no {library}: `cargo test -p crore-loaded` builds it"))
}

/// Loads the library in a C program, and calls it: what all said.
fn loaded(library: &str, args: &[&str]) -> String {
    let folder = std::env::temp_dir().join(format!("crore-loaded-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let loader = folder.join("loader");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/dlopen-cdylib.c");
    let mut compile = Command::new("cc");
    compile
        .args(["-w", "-fsanitize=undefined"])
        .arg("-fsanitize-undefined-trap-on-error")
        .arg(source)
        .arg("-o")
        .arg(&loader)
        .args(["-ldl", "-pthread"]);
    assert!(compile.status().unwrap().success());
    // Not for ever, should it hang.
    let mut run = Command::new("timeout");
    let output = run
        .arg("60")
        .arg(loader)
        .arg(built(library))
        .args(args)
        .output()
        .unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let text = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{:?} {text:?}", output.status);
    text.concat()
}

#[test]
fn it_works_or_names_the_cure() {
    for args in [["0"].as_slice(), &["1"], &["0", "global"]] {
        let text = loaded("libcrore_loaded.so", args);
        assert!(text.contains("go 190") && text.contains("end"), "{text}");
        assert!(
            text.contains("waited 0") && text.contains("stays"),
            "{text}"
        );
        let text = loaded("libunbound.so", args);
        assert!(text.contains("go -1") && text.contains("end"), "{text}");
        assert!(
            text.contains("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic"),
            "{text}"
        );
    }
}
