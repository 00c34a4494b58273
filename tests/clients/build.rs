//! Compiles the C shims: what a C program of these libraries looks like.

fn main() {
    shim("hiredis", "libhiredis-dev");
    shim("libpq", "libpq-dev");
}

fn shim(library: &str, package: &str) {
    let source = format!("src/{library}.c");
    println!("cargo::rerun-if-changed={source}");
    let found = pkg_config::Config::new()
        .cargo_metadata(false)
        .probe(library)
        .unwrap_or_else(|error| {
            panic!("{library} is not installed: apt-get install {package} pkg-config\n{error}")
        });
    cc::Build::new()
        .file(source)
        .includes(&found.include_paths)
        .warnings_into_errors(true)
        // What is undefined traps.
        .flag("-fsanitize=undefined")
        .flag("-fsanitize-undefined-trap-on-error")
        .compile(&format!("crore_clients_{library}"));
    // After the shim, which needs it.
    for name in &found.libs {
        println!("cargo::rustc-link-lib={name}");
    }
}
