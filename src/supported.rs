//! Refuses systems that the rest can't run on, each with one sentence.
//! `scripts/targets.sh` compiles this file alone for several of them.

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("crore runs on Linux only, on x86_64 and aarch64");

#[cfg(all(feature = "hook", target_os = "linux", not(target_env = "gnu")))]
compile_error!(
    "crore's hooks stand in for functions of glibc: with another libc, set `default-features = false`"
);
