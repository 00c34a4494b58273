//! The promise: programs in C and C++ that link with the library do what the headers say,
//! however they are linked, and libc's functions park their coroutines.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Folder, PACKAGE, compiler, run};

/// How a program is linked.
#[derive(Clone, Copy, Debug)]
enum Linked {
    Archive,
    Shared,
}

/// Builds a program; runs it, not for ever.
fn output(folder: &Folder, compile: &mut Command, source: &str, linked: Linked) -> String {
    let program = folder.path("program");
    compile
        .arg(Path::new(PACKAGE).join("tests/c").join(source))
        .args(["-x", "none"])
        .arg("-o")
        .arg(&program);
    match linked {
        Linked::Archive => compile.arg(folder.path("libcrore.a")),
        Linked::Shared => compile
            .arg("-L")
            .arg(&folder.0)
            .arg("-lcrore")
            .arg(format!("-Wl,-rpath,{}", folder.0.display())),
    };
    compile.args(["-lgcc_s", "-lpthread", "-ldl", "-lm"]);
    run(compile);
    // What holds a worker is the machine's other work.
    let mut limited = Command::new("timeout");
    run(limited.arg("120").arg(program).env("CRORE_WATCHDOG", "0"))
}

#[test]
fn each_function_does_what_the_header_says() {
    let folder = Folder::with_libraries("api");
    for linked in [Linked::Archive, Linked::Shared] {
        for arguments in [
            ["-xc", "-std=c11"].as_slice(),
            &["-xc", "-O2", "-flto"],
            &["-xc++"],
        ] {
            let mut compile = compiler(if arguments[0] == "-xc" { "cc" } else { "c++" });
            compile.args(arguments).arg("-D_GNU_SOURCE");
            let text = output(&folder, &mut compile, "api.c", linked);
            assert!(
                text.contains("; 0 failures"),
                "{linked:?} {arguments:?}: {text}"
            );
        }
    }
}

#[test]
fn what_can_be_seen_to_be_wrong_is_an_error_with_words() {
    let folder = Folder::with_libraries("hostile");
    let mut compile = compiler("cc");
    compile.args(["-xc", "-std=c11", "-O1", "-D_GNU_SOURCE"]);
    let text = output(&folder, &mut compile, "hostile.c", Linked::Archive);
    assert!(text.starts_with("0 failures\n"), "{text}");
}

#[test]
fn what_libco_leaves_undefined_does_nothing_and_says_why() {
    let folder = Folder::with_libraries("hostile-libco");
    let mut compile = compiler("c++");
    let include = Path::new(PACKAGE).join("include/libco");
    compile.arg("-I").arg(include).args(["-O1", "-xc++"]);
    let text = output(&folder, &mut compile, "hostile_libco.cpp", Linked::Archive);
    assert!(text.starts_with("0 failures\n"), "{text}");
}

#[test]
fn exceptions_are_thrown_again_by_join() {
    let folder = Folder::with_libraries("exceptions");
    for linked in [Linked::Archive, Linked::Shared] {
        for standard in ["-std=c++11", "-std=c++20"] {
            let mut compile = compiler("c++");
            compile.args([standard, "-O1", "-xc++"]);
            let text = output(&folder, &mut compile, "exceptions.cpp", linked);
            assert_eq!(text, "0 failures\n", "{linked:?} {standard}");
        }
    }
}

#[test]
fn what_nobody_catches_ends_the_process_with_a_message() {
    let folder = Folder::with_libraries("uncaught");
    let mut compile = compiler("c++");
    compile.args(["-DUNCAUGHT", "-xc++"]);
    let source = Path::new(PACKAGE).join("tests/c/exceptions.cpp");
    let program = folder.path("program");
    compile.arg(source).args(["-xnone", "-o"]).arg(&program);
    compile.arg(folder.path("libcrore.a"));
    run(compile.args(["-lgcc_s", "-lpthread", "-ldl", "-lm"]));
    let mut limited = Command::new("timeout");
    let output = limited.arg("60").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("use crore.hpp, which hands it on"), "{text}");
}

/// As a user has it: installed, found by pkg-config and by CMake.
#[test]
fn the_installed_library_is_found() {
    let prefix = Folder::new("prefix");
    let mut install = Command::new(Path::new(PACKAGE).join("scripts/install.sh"));
    run(install.arg(&prefix.0).env("CRORE_C_BUILT", common::built()));
    let example = Path::new(PACKAGE).join("examples");
    let mut program = Command::new("sh");
    program.arg("-c").arg(
        "set -e; cc -o $PREFIX/sleepers $EXAMPLE/sleepers.c \
             $(pkg-config --cflags --libs crore) -Wl,-rpath,$PREFIX/lib; $PREFIX/sleepers; \
         cmake -S $EXAMPLE -B $PREFIX/build -DCMAKE_PREFIX_PATH=$PREFIX >&2; \
         cmake --build $PREFIX/build >&2; $PREFIX/build/sleepers; $PREFIX/build/sleepers-static",
    );
    program.env("PKG_CONFIG_PATH", prefix.path("lib/pkgconfig"));
    program.env("PREFIX", &prefix.0).env("EXAMPLE", example);
    let text = run(&mut program);
    let slept = text.lines().filter(|line| *line == "1000 slept").count();
    assert_eq!(slept, 3, "{text}");
}

#[test]
fn libcos_names_mean_what_they_did() {
    let folder = Folder::with_libraries("libco");
    let wanted = "\
nests: created self inner1 outer1 main inner2 outer2 nobody 
turns: 10 
parks: reads main sleeps loop writes got-z 
connections: a bb late resumed c reset 
signals: signalled woken-2 woken-1 woken5 woken0 
specific: 2 2 5 40 
shares: a b c d e f 
environment: a gone b gone main b null 
misuse: still-here 1 2 3 
";
    for linked in [Linked::Archive, Linked::Shared] {
        let mut compile = compiler("c++");
        let include = Path::new(PACKAGE).join("include/libco");
        compile.arg("-I").arg(include).args(["-O2", "-xc++"]);
        let text = output(&folder, &mut compile, "libco.cpp", linked);
        let (notes, said) = text
            .lines()
            .partition::<Vec<_>, _>(|line| line.starts_with("crore: "));
        let wanted: Vec<_> = wanted.lines().collect();
        assert_eq!(said, wanted, "{linked:?}");
        assert_eq!(notes.len(), 12, "{notes:#?}");
    }
}
