//! Makes the kernel refuse system calls to one thread, for as long as it lives.

use std::io;

/// One system call that fails.
pub(crate) struct Rule {
    pub(crate) call: libc::c_long,
    /// Only if this argument ...
    pub(crate) when: When,
    pub(crate) error: libc::c_int,
}

#[derive(Clone, Copy)]
pub(crate) enum When {
    Always,
    Is(u32, u32),
    AtLeast(u32, u32),
    /// The upper half of it.
    UpperAtLeast(u32, u32),
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Of `struct seccomp_data`: the number of the call, then the arguments.
const NUMBER: u32 = 0;
const ARGUMENTS: u32 = 16;

fn step(code: u16, k: u32) -> libc::sock_filter {
    jump(code, k, 0)
}

/// Skips `no` steps if the comparison fails.
fn jump(code: u16, k: u32, no: u8) -> libc::sock_filter {
    libc::sock_filter {
        code,
        jt: 0,
        jf: no,
        k,
    }
}

/// From now on, on this thread, and on those that it starts.
pub(crate) fn refuse(rules: &[Rule]) {
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let at_least = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    let mut program = Vec::new();
    for rule in rules {
        let compare = match rule.when {
            When::Always => None,
            When::Is(argument, value) => Some((8 * argument, equal, value)),
            When::AtLeast(argument, value) => Some((8 * argument, at_least, value)),
            When::UpperAtLeast(argument, value) => Some((8 * argument + 4, at_least, value)),
        };
        let rest = if compare.is_some() { 3 } else { 1 };
        program.push(step(LOAD, NUMBER));
        program.push(jump(equal, rule.call as u32, rest));
        if let Some((at, code, value)) = compare {
            // Words, of machines that store the lower half first.
            program.push(step(LOAD, ARGUMENTS + at));
            program.push(jump(code, value, 1));
        }
        let answer = libc::SECCOMP_RET_ERRNO | rule.error as u32;
        program.push(step(RETURN, answer));
    }
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW));
    let mut filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: a program that lives across the call, which copies it.
    unsafe {
        let quiet = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        assert_eq!(quiet, 0, "{}", io::Error::last_os_error());
        let mode = libc::SECCOMP_MODE_FILTER;
        let set = libc::prctl(libc::PR_SET_SECCOMP, mode, &raw mut filter);
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }
}

/// This call, whatever its arguments.
pub(crate) fn always(call: libc::c_long, error: libc::c_int) -> Rule {
    Rule {
        call,
        when: When::Always,
        error,
    }
}

/// Address space in large pieces, which only reserves ask for.
pub(crate) fn no_reserves() -> [Rule; 2] {
    [When::AtLeast(1, 1 << 20), When::UpperAtLeast(1, 1)].map(|when| Rule {
        call: libc::SYS_mmap,
        when,
        error: libc::ENOMEM,
    })
}
