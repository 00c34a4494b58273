//! What Linux got when, as far as crore, std, libc or the tests may use it.

use crate::seccomp::{Rule, When, always};

pub(crate) type Version = (u32, u32);

pub(crate) fn version(word: &str) -> Option<Version> {
    let (major, minor) = word.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What a kernel of this version refuses, as that one would.
pub(crate) fn than(version: Version) -> Vec<Rule> {
    let calls = CALLS
        .iter()
        .filter(|(since, _)| *since > version)
        .flat_map(|(_, calls)| calls.iter().map(|call| always(*call, libc::ENOSYS)));
    let flags = FLAGS
        .iter()
        .filter(|flag| flag.since > version)
        .map(Flag::rule);
    calls.chain(flags).collect()
}

/// (A number from 424 on is every processor's.)
const CALLS: &[(Version, &[libc::c_long])] = &[
    ((3, 17), &[libc::SYS_getrandom, libc::SYS_memfd_create]),
    ((3, 18), &[libc::SYS_bpf]),
    ((3, 19), &[libc::SYS_execveat]),
    ((4, 3), &[libc::SYS_membarrier, libc::SYS_userfaultfd]),
    ((4, 4), &[libc::SYS_mlock2]),
    ((4, 5), &[libc::SYS_copy_file_range]),
    ((4, 6), &[libc::SYS_preadv2, libc::SYS_pwritev2]),
    (
        (4, 9),
        &[
            libc::SYS_pkey_alloc,
            libc::SYS_pkey_free,
            libc::SYS_pkey_mprotect,
        ],
    ),
    ((4, 11), &[libc::SYS_statx]),
    ((4, 18), &[libc::SYS_rseq]),
    ((5, 1), &[libc::SYS_pidfd_send_signal]),
    (
        (5, 1),
        &[
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
        ],
    ),
    ((5, 2), &[libc::SYS_open_tree, libc::SYS_move_mount]),
    ((5, 3), &[libc::SYS_pidfd_open, libc::SYS_clone3]),
    ((5, 6), &[libc::SYS_openat2, libc::SYS_pidfd_getfd]),
    ((5, 8), &[libc::SYS_faccessat2]),
    ((5, 9), &[libc::SYS_close_range]),
    ((5, 10), &[libc::SYS_process_madvise]),
    ((5, 11), &[libc::SYS_epoll_pwait2]),
    ((5, 12), &[libc::SYS_mount_setattr]),
    ((5, 13), &[libc::SYS_landlock_create_ruleset]),
    ((5, 14), &[libc::SYS_memfd_secret]),
    ((5, 15), &[libc::SYS_process_mrelease]),
    ((5, 16), &[libc::SYS_futex_waitv]),
    // cachestat; fchmodat2; futex_wake, futex_wait, futex_requeue.
    ((6, 5), &[451]),
    ((6, 6), &[452]),
    ((6, 7), &[454, 455, 456]),
    // statmount, listmount; mseal.
    ((6, 8), &[457, 458]),
    ((6, 10), &[462]),
];

/// An argument's value that a call which was there has not known.
struct Flag {
    since: Version,
    call: libc::c_long,
    argument: u32,
    value: u32,
    error: libc::c_int,
}

impl Flag {
    fn rule(&self) -> Rule {
        Rule {
            call: self.call,
            when: When::Is(self.argument, self.value),
            error: self.error,
        }
    }
}

const FLAGS: &[Flag] = &[
    // Stack guards in the page table: MADV_GUARD_INSTALL, MADV_GUARD_REMOVE.
    madvise((6, 13), 102),
    madvise((6, 13), 103),
    // MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLD, MADV_PAGEOUT.
    madvise((5, 14), 22),
    madvise((5, 14), 23),
    madvise((5, 4), 20),
    madvise((5, 4), 21),
    madvise((4, 14), libc::MADV_WIPEONFORK as u32),
    madvise((4, 5), libc::MADV_FREE as u32),
    // Pipes and sockets took RWF_NOWAIT later than files; a filter can't tell them apart.
    nowait(libc::SYS_preadv2),
    nowait(libc::SYS_pwritev2),
    // membarrier's PRIVATE_EXPEDITED and its registration.
    Flag {
        since: (4, 14),
        call: libc::SYS_membarrier,
        argument: 0,
        value: 8,
        error: libc::EINVAL,
    },
    Flag {
        since: (4, 14),
        call: libc::SYS_membarrier,
        argument: 0,
        value: 16,
        error: libc::EINVAL,
    },
    // prctl: PR_SET_VMA (names), PR_SET_SYSCALL_USER_DISPATCH.
    Flag {
        since: (5, 17),
        call: libc::SYS_prctl,
        argument: 0,
        value: 0x5356_4d41,
        error: libc::EINVAL,
    },
    Flag {
        since: (5, 11),
        call: libc::SYS_prctl,
        argument: 0,
        value: 59,
        error: libc::EINVAL,
    },
];

const fn madvise(since: Version, advice: u32) -> Flag {
    Flag {
        since,
        call: libc::SYS_madvise,
        argument: 2,
        value: advice,
        error: libc::EINVAL,
    }
}

const fn nowait(call: libc::c_long) -> Flag {
    Flag {
        since: (6, 5),
        call,
        argument: 5,
        value: 8,
        error: libc::EOPNOTSUPP,
    }
}

#[cfg(test)]
mod tests {
    use super::{than, version};

    #[test]
    fn older_kernels_lack_more() {
        let lacks =
            ["3.17", "4.4", "5.4", "5.15", "99.0"].map(|word| than(version(word).unwrap()).len());
        assert!(
            lacks.is_sorted_by(|older, younger| older > younger),
            "{lacks:?}"
        );
        assert_eq!(lacks[4], 0);
    }

    #[test]
    fn what_is_no_version_is_none() {
        for word in ["", "5", "5.", "five.4", "5.4.1"] {
            assert_eq!(version(word), None, "{word}");
        }
    }
}
