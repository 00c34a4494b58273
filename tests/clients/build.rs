//! Compiles the C shim over hiredis: what a C program of hiredis looks like.

fn main() {
    println!("cargo::rerun-if-changed=src/hiredis.c");
    let hiredis = pkg_config::Config::new()
        .cargo_metadata(false)
        .probe("hiredis")
        .expect("hiredis is not installed: apt-get install libhiredis-dev pkg-config");
    cc::Build::new()
        .file("src/hiredis.c")
        .includes(&hiredis.include_paths)
        .warnings_into_errors(true)
        .compile("crore_clients_hiredis");
    println!("cargo::rustc-link-lib=hiredis");
}
