//! Floating-point control: how a thread rounds, which exceptions it masks and has
//! met. Calls keep it, so a switch does not, and others would compute with it.

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod kind;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod kind;

pub(crate) use kind::FpControl;
