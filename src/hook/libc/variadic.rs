//! Functions with `...`: Rust can't define them, so each is some instructions that put
//! the arguments into a `va_list` and call the form that takes one, as C's own does.
//!
//! On x86_64 registers go to the place that the list's `reg_save_area` names, on
//! aarch64 below its `__gr_top` and `__vr_top`; what the caller put on the stack stays
//! where it is.

use std::ffi::c_void;

/// C's `va_list`, as functions pass it: a pointer, on our targets.
pub(crate) type Arguments = *mut c_void;

/// Declares hooks of variadic functions. `$fixed` says how many arguments stand before
/// the `...`; `$target` takes them and a `va_list`.
macro_rules! variadic {
    ($(fn $name:ident($fixed:tt, ...) = $target:path;)*) => {
        $(
            $crate::hook::libc::variadic::enter!($name, $fixed, $target);

            #[allow(non_camel_case_types, reason = "named after the function")]
            pub(crate) enum $name {}

            impl $name {
                /// libc's own is behind the form that takes a `va_list`.
                pub(crate) fn look_up() {
                    unsafe extern "C" {
                        fn $name();
                    }
                    // What is named is linked.
                    ::std::hint::black_box($name as *const ());
                }
            }
        )*
    };
}
pub(crate) use variadic;

#[cfg(target_arch = "x86_64")]
macro_rules! enter {
    ($name:ident, 1, $target:path) => { $crate::hook::libc::variadic::enter!(@ $name, 8, "rsi", $target); };
    ($name:ident, 2, $target:path) => { $crate::hook::libc::variadic::enter!(@ $name, 16, "rdx", $target); };
    ($name:ident, 3, $target:path) => { $crate::hook::libc::variadic::enter!(@ $name, 24, "rcx", $target); };
    (@ $name:ident, $used:literal, $list:literal, $target:path) => {
        ::std::arch::global_asm!(
            concat!(".globl ", stringify!($name)),
            concat!(".type ", stringify!($name), ",@function"),
            concat!(stringify!($name), ":"),
            ".cfi_startproc",
            "endbr64",
            "sub rsp, 216",
            ".cfi_adjust_cfa_offset 216",
            "mov [rsp + 32], rdi",
            "mov [rsp + 40], rsi",
            "mov [rsp + 48], rdx",
            "mov [rsp + 56], rcx",
            "mov [rsp + 64], r8",
            "mov [rsp + 72], r9",
            "movaps [rsp + 80], xmm0",
            "movaps [rsp + 96], xmm1",
            "movaps [rsp + 112], xmm2",
            "movaps [rsp + 128], xmm3",
            "movaps [rsp + 144], xmm4",
            "movaps [rsp + 160], xmm5",
            "movaps [rsp + 176], xmm6",
            "movaps [rsp + 192], xmm7",
            // gp_offset, fp_offset, overflow_arg_area, reg_save_area
            "mov dword ptr [rsp], {used}",
            "mov dword ptr [rsp + 4], 48",
            "lea rax, [rsp + 224]",
            "mov [rsp + 8], rax",
            "lea rax, [rsp + 32]",
            "mov [rsp + 16], rax",
            concat!("mov ", $list, ", rsp"),
            "call {target}",
            "add rsp, 216",
            ".cfi_adjust_cfa_offset -216",
            "ret",
            ".cfi_endproc",
            concat!(".size ", stringify!($name), ", . - ", stringify!($name)),
            used = const $used,
            target = sym $target,
        );
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! enter {
    ($name:ident, 1, $target:path) => { $crate::hook::libc::variadic::enter!(@ $name, -56, "x1", $target); };
    ($name:ident, 2, $target:path) => { $crate::hook::libc::variadic::enter!(@ $name, -48, "x2", $target); };
    ($name:ident, 3, $target:path) => { $crate::hook::libc::variadic::enter!(@ $name, -40, "x3", $target); };
    (@ $name:ident, $left:literal, $list:literal, $target:path) => {
        ::std::arch::global_asm!(
            concat!(".globl ", stringify!($name)),
            concat!(".type ", stringify!($name), ",@function"),
            concat!(stringify!($name), ":"),
            ".cfi_startproc",
            "stp x29, x30, [sp, #-240]!",
            ".cfi_def_cfa_offset 240",
            ".cfi_offset w29, -240",
            ".cfi_offset w30, -232",
            "stp x0, x1, [sp, #48]",
            "stp x2, x3, [sp, #64]",
            "stp x4, x5, [sp, #80]",
            "stp x6, x7, [sp, #96]",
            "stp q0, q1, [sp, #112]",
            "stp q2, q3, [sp, #144]",
            "stp q4, q5, [sp, #176]",
            "stp q6, q7, [sp, #208]",
            // __stack, __gr_top, __vr_top, __gr_offs, __vr_offs
            "add x9, sp, #240",
            "add x10, sp, #112",
            "stp x9, x10, [sp, #16]",
            "str x9, [sp, #32]",
            "mov w9, #{left}",
            "mov w10, #-128",
            "stp w9, w10, [sp, #40]",
            concat!("add ", $list, ", sp, #16"),
            "bl {target}",
            "ldp x29, x30, [sp], #240",
            ".cfi_def_cfa_offset 0",
            ".cfi_restore w29",
            ".cfi_restore w30",
            "ret",
            ".cfi_endproc",
            concat!(".size ", stringify!($name), ", . - ", stringify!($name)),
            left = const $left,
            target = sym $target,
        );
    };
}
pub(crate) use enter;
