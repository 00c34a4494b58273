//! The promise: programs that are built with AddressSanitizer and the one of undefined
//! behaviour, and linked with a library that tells of switches, run as others do; and what
//! these are there for is reported.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Folder, PACKAGE, compiler, run};

/// The library with the feature `sanitizer`, which no other test has: it has a folder of
/// its own.
fn with_sanitizer(name: &str) -> Folder {
    let target = Path::new(PACKAGE).join("../../target/sanitizer");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "-q",
        "-p",
        "crore-c",
        "--lib",
        "--features",
        "sanitizer",
    ]);
    cargo.arg("--target-dir").arg(&target).current_dir(PACKAGE);
    run(&mut cargo);
    Folder::linked(name, &target.join("debug"))
}

/// How a program is linked: the library, or the archive.
fn libraries(folder: &Folder) -> [Vec<String>; 2] {
    let path = folder.0.display();
    [
        vec![
            format!("-L{path}"),
            "-lcrore".into(),
            format!("-Wl,-rpath,{path}"),
        ],
        vec![format!("{path}/libcrore.a")],
    ]
}

fn compile(folder: &Folder, sanitizers: &str, source: &str, linked: &[String]) -> PathBuf {
    let program = folder.path("program");
    let c = source.ends_with(".c");
    let mut compile = compiler(if c { "cc" } else { "c++" });
    compile
        .arg(format!("-fsanitize={sanitizers}"))
        .args([
            "-fno-sanitize-recover=undefined",
            "-g",
            "-O1",
            "-D_GNU_SOURCE",
            "-I",
        ])
        .arg(Path::new(PACKAGE).join("include/libco"))
        .arg(Path::new(PACKAGE).join("tests/c").join(source))
        .arg("-o")
        .arg(&program)
        .args(linked)
        .args(["-lgcc_s", "-lpthread", "-ldl", "-lm"]);
    run(&mut compile);
    program
}

fn limited(program: &Path) -> Command {
    let mut limited = Command::new("timeout");
    limited.arg("120").arg(program).env("CRORE_WATCHDOG", "0");
    limited
}

/// Whether the compiler has both sanitizers; says so if not.
fn is_there(test: &str) -> bool {
    let mut trial = Command::new("sh");
    trial.args([
        "-c",
        "echo 'int main(void) { return 0; }' | cc -fsanitize=address,undefined -xc - -o \"$0\" && \"$0\"",
    ]);
    let folder = Folder::new(&format!("trial-{test}"));
    let there = trial
        .arg(folder.path("program"))
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        eprintln!("skipped: {test}: the compiler lacks a sanitizer");
    }
    there
}

#[test]
fn nothing_is_reported_of_programs_that_are_right() {
    if !is_there("nothing_is_reported_of_programs_that_are_right") {
        return;
    }
    let folder = with_sanitizer("asan-right");
    for linked in libraries(&folder) {
        for source in [
            "asan.cpp",
            "api.c",
            "exceptions.cpp",
            "libco.cpp",
            "hostile.c",
            "hostile_libco.cpp",
            "../../examples/sleepers.c",
        ] {
            let program = compile(&folder, "address,undefined", source, &linked);
            let mut program = limited(&program);
            // Coroutines that are released before their end leave what they own, and a thread
            // its loop, as in libco.
            if source.ends_with("libco.cpp") {
                program.env("ASAN_OPTIONS", "detect_leaks=0");
            }
            let text = run(&mut program);
            let end = match source {
                "libco.cpp" => "misuse: still-here 1 2 3 \n",
                "../../examples/sleepers.c" => "1000 slept\n",
                _ => "0 failures\n",
            };
            assert!(text.contains(end), "{source} {linked:?}: {text}");
            assert!(!text.contains("Sanitizer"), "{source} {linked:?}: {text}");
        }
    }
}

#[test]
fn what_is_wrong_in_a_coroutine_is_reported_with_its_frames() {
    if !is_there("what_is_wrong_in_a_coroutine_is_reported_with_its_frames") {
        return;
    }
    let folder = with_sanitizer("asan-wrong");
    for linked in libraries(&folder) {
        let program = compile(&folder, "address", "asan.cpp", &linked);
        for (what, wanted) in [
            ("heap", "heap-buffer-overflow"),
            ("stack", "stack-buffer-overflow"),
            ("freed", "heap-use-after-free"),
            ("null", "SEGV on unknown address"),
            ("overflow", "crore: stack overflow in"),
        ] {
            is_reported(&program, what, wanted);
        }
        let program = compile(&folder, "address,undefined", "asan.cpp", &linked);
        is_reported(&program, "signed", "signed integer overflow");
    }
}

fn is_reported(program: &Path, what: &str, wanted: &str) {
    for shared in [None, Some("shared")] {
        let mut limited = limited(program);
        limited.env("UBSAN_OPTIONS", "print_stacktrace=1");
        let output = limited.arg(what).args(shared).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let case = format!("{what} {shared:?}: {} {text}", output.status);
        assert!(!output.status.success(), "{case}");
        assert!(text.contains(wanted), "{case}");
        // (An overflow is crore's to report, which names the coroutine.)
        let frames = [" in wrong ", " in goes_wrong "];
        assert!(
            what == "overflow" || frames.iter().all(|frame| text.contains(frame)),
            "{case}"
        );
    }
}
