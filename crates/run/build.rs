//! Builds the libraries that the command carries, where the command is built to be
//! installed (a release). While it is developed they are found beside it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(carries_library)");
    // Clippy builds nothing that is run.
    let lints = env::var("RUSTC_WORKSPACE_WRAPPER").is_ok_and(|name| name.contains("clippy"));
    if env::var("PROFILE").unwrap() != "release" || lints {
        return;
    }
    for path in ["preload", "../inspect/src", "../../src", "../../Cargo.toml"] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rustc-cfg=carries_library");
    for (name, features) in [("CRORE_LIBRARY", ""), ("CRORE_LIBRARY_SIM", "sim")] {
        println!(
            "cargo::rustc-env={name}={}",
            build(name, features).display()
        );
    }
}

/// The library with these features, as a file of this name; built by a cargo of its own,
/// whose locks are elsewhere.
fn build(name: &str, features: &str) -> PathBuf {
    let target = Path::new(&env::var("OUT_DIR").unwrap()).join("preload");
    let mut cargo = Command::new(env::var("CARGO").unwrap());
    cargo
        .args([
            "rustc",
            "--quiet",
            "--release",
            "--lib",
            "--crate-type",
            "cdylib",
            "--features",
            features,
        ])
        .args(["--manifest-path", "preload/Cargo.toml", "--target-dir"])
        .arg(&target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    let done = cargo.status().expect("cargo, which runs this, starts");
    assert!(done.success(), "the library was not built");
    let built = target.join(name);
    std::fs::copy(target.join("release/libcrore_preload.so"), &built).expect("a copy of it");
    built
}
