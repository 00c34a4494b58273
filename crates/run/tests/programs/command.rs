//! The command itself: what it refuses, and what it hands on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::{CRORE, Folder, said};

fn check(program: &Path) -> (Option<i32>, String) {
    let (code, out, error) = said(Command::new(CRORE).args(["run", "--check"]).arg(program));
    (code, out + &error)
}

fn refused(program: &Path, why: &str) {
    let (code, text) = check(program);
    assert_eq!(code, Some(125), "{text}");
    assert!(text.contains(why) && text.lines().count() == 1, "{text}");
    // Nor does it run.
    let (code, out, error) = said(Command::new(CRORE).arg("run").arg(program));
    assert_eq!((code, out), (Some(125), String::new()), "{error}");
    assert!(error.contains(why), "{error}");
}

fn compiled(folder: &Folder, name: &str, options: &[&str]) -> std::path::PathBuf {
    let source = folder.file("source.c");
    fs::write(
        &source,
        "#include <stdio.h>\nint main(void) { puts(\"ran\"); }\n",
    )
    .unwrap();
    let program = folder.file(name);
    let mut cc = Command::new("cc");
    cc.arg(&source).args(options).arg("-o").arg(&program);
    assert!(cc.status().unwrap().success());
    program
}

#[test]
fn programs_that_can_not_be_run_are_refused_in_one_line() {
    let folder = Folder::new("refused");
    refused(&compiled(&folder, "static", &["-static"]), "statically");
    let musl = "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1";
    refused(&compiled(&folder, "musl", &[musl]), "musl");
    refused(
        &compiled(&folder, "other", &["-Wl,--dynamic-linker=/lib/ld.so"]),
        "/lib/ld.so",
    );
    let setuid = compiled(&folder, "setuid", &[]);
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    refused(&setuid, "setuid");
    let go = compiled(&folder, "plain", &[]);
    let with_section = folder.file("go");
    let mut objcopy = Command::new("objcopy");
    objcopy
        .args(["--add-section", ".go.buildinfo=/dev/null"])
        .arg(&go)
        .arg(&with_section);
    assert!(objcopy.status().unwrap().success());
    refused(&with_section, "Go");
    let text = folder.file("text");
    fs::write(&text, "no program").unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
    refused(&text, "no program for");
    refused(&folder.file("absent"), "not found");
    // A script is what its interpreter is.
    let script = folder.file("script");
    fs::write(&script, format!("#!{} -x\n", setuid.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    refused(&script, "setuid");
}

/// What stands before libc, as an older processor or another glibc would be.
fn stand_in(folder: &Folder, name: &str, text: &str) -> std::path::PathBuf {
    let (source, library) = (folder.file("stand_in.c"), folder.file(name));
    fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC"])
        .arg(&source)
        .arg("-o")
        .arg(&library);
    assert!(cc.status().unwrap().success());
    library
}

#[test]
fn processors_and_libcs_that_will_not_do_are_named_before_the_program_runs() {
    let folder = Folder::new("missing");
    let program = compiled(&folder, "plain", &[]);
    let no_fsgsbase = "#define _GNU_SOURCE
        #include <dlfcn.h>
        unsigned long getauxval(unsigned long what) {
            unsigned long (*next)(unsigned long) = dlsym(RTLD_NEXT, \"getauxval\");
            return what == 26 ? next(what) & ~2UL : next(what);
        }";
    // Thread ids elsewhere, a list of another kind, thread blocks of another size.
    let other_places = [
        (
            "unsigned _thread_db_pthread_tid[3] = {32, 1, 8};",
            "glibc 2.",
        ),
        (
            "unsigned _thread_db_pthread_list[3] = {64, 1, 704};",
            "_thread_db_pthread_list",
        ),
        ("unsigned _thread_db_sizeof_pthread = 64;", "glibc 2."),
    ];
    let stand_ins = [(no_fsgsbase, "FSGSBASE")].into_iter().chain(other_places);
    for (at, (text, why)) in stand_ins.enumerate() {
        let library = stand_in(&folder, &format!("{at}.so"), text);
        for args in [&["run", "--check"][..], &["run"]] {
            let mut crore = Command::new(CRORE);
            crore.args(args).arg(&program).env("LD_PRELOAD", &library);
            let (code, out, error) = said(&mut crore);
            assert_eq!((code, out.as_str()), (Some(125), ""), "{text}: {error}");
            assert!(error.contains(why), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{text}: {error}");
        }
    }
}

#[test]
fn programs_that_can_be_run_are_found_as_a_shell_does() {
    let folder = Folder::new("found");
    for program in [
        &compiled(&folder, "plain", &[]),
        Path::new("sh"),
        Path::new("/bin/sh"),
    ] {
        let (code, text) = check(program);
        assert_eq!(code, Some(0), "{text}");
    }
}

#[test]
fn what_is_asked_wrongly_is_said() {
    for (args, said_) in [
        (&["run"][..], "no program"),
        (&["run", "--workers", "x", "true"], "no number"),
        (&["walk"], "no such command"),
        (&["run", "--real", "(", "true"], "no regular expression"),
    ] {
        let (code, out, error) = said(Command::new(CRORE).args(args));
        assert_eq!((code, out), (Some(125), String::new()), "{error}");
        assert!(error.contains(said_), "{error}");
    }
}

#[test]
fn status_arguments_and_environment_are_the_programs() {
    let script = "echo \"$0 $1 $MINE\"; exit 9";
    let args = ["run", "--only", "--", "sh", "-c", script, "name", "-x"];
    let (code, out, error) = said(Command::new(CRORE).args(args).env("MINE", "yes"));
    assert_eq!(
        (code, out.as_str(), error.as_str()),
        (Some(9), "name -x yes\n", "")
    );
}

#[test]
fn children_run_so_too_unless_only_the_program_is_to() {
    let script =
        "tr '\\0' '\\n' </proc/$$/environ | grep -c CRORE_RUN; sh -c 'echo ${CRORE_RUN-none}'";
    let run = |options: &[&str]| {
        let mut crore = Command::new(CRORE);
        crore.arg("run").args(options).args(["sh", "-c", script]);
        said(&mut crore).1
    };
    assert_eq!(run(&[]), "1\n1\n");
    assert_eq!(run(&["--only"]), "1\nnone\n");
}
