//! Compiles the C and C++ halves of the cases.

fn main() {
    println!("cargo::rerun-if-changed=c");
    half()
        .cpp(true)
        .file("c/cxx-exceptions.cc")
        .compile("crore_cases_cxx");
    // As Debian 12 builds its C libraries: frames that step over a guard page.
    half()
        .cpp(true)
        .file("c/guard-stepped-over.cc")
        .opt_level(1)
        .flag_if_supported("-fno-stack-clash-protection")
        .compile("crore_cases_guard");
    half()
        .file("c/siglongjmp.c")
        .compile("crore_cases_siglongjmp");
    half().file("c/glibc-cond.c").compile("crore_cases_cond");
    half()
        .cpp(true)
        .file("c/glibc-cond-cv.cpp")
        .compile("crore_cases_cv");
}

/// One in which what is undefined traps.
fn half() -> cc::Build {
    let mut build = cc::Build::new();
    build.flag("-fsanitize=undefined");
    build.flag("-fsanitize-undefined-trap-on-error");
    build
}
