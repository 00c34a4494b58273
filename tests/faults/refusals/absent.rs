//! Calls that an old kernel does not have (`ENOSYS`), or that a filter which does not
//! know them refuses (`EPERM`): all of what waits, and files, without them.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::seccomp::{Rule, When, always, refuse};
use super::{bystander, code, ping, succeeds, waits};

/// What came after Linux 4.4, as far as crore, std or libc may use it. (Not `rseq`:
/// libc ends a thread that has none while the first has one.)
fn recent() -> Vec<libc::c_long> {
    vec![
        libc::SYS_preadv2,
        libc::SYS_pwritev2,
        libc::SYS_copy_file_range,
        libc::SYS_statx,
        libc::SYS_membarrier,
        libc::SYS_memfd_create,
        libc::SYS_getrandom,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        libc::SYS_close_range,
        libc::SYS_epoll_pwait2,
        libc::SYS_faccessat2,
        libc::SYS_openat2,
        libc::SYS_futex_waitv,
        libc::SYS_io_uring_setup,
        libc::SYS_mlock2,
        libc::SYS_pkey_alloc,
    ]
}

/// Without `calls`, of which each fails with `error`, and without light guards.
fn without(calls: Vec<libc::c_long>, error: libc::c_int) {
    let mut rules: Vec<_> = calls.into_iter().map(|call| always(call, error)).collect();
    rules.push(Rule {
        call: libc::SYS_madvise,
        when: When::Is(2, 102),
        error: if error == libc::ENOSYS {
            libc::EINVAL
        } else {
            error
        },
    });
    refuse(&rules);
    crore::run(|| {
        let (echo, mut far) = bystander();
        for (_, wait) in waits::all() {
            wait();
            ping(&mut far);
        }
        files();
        large_writes();
        let refused = crore::timeout(Duration::from_secs(60), refused_at_once);
        refused.expect("what is refused at once waits");
        drop(far);
        echo.join().unwrap();
    })
    .unwrap();
}

/// Nothing is ready, and yet these never wait: for their arguments, or since there is
/// nothing of the kind to wait for.
#[allow(clippy::incompatible_msrv, reason = "tests may use what is younger")]
fn refused_at_once() {
    let (near, _far) = UnixStream::pair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: no pointers; made just now.
    let [epoll, events] =
        unsafe { [libc::epoll_create1(0), libc::eventfd(0, 0)].map(|fd| OwnedFd::from_raw_fd(fd)) };
    let (out, into) = io::pipe().unwrap();
    let mut place = [0_u8; 8];
    let one = libc::iovec {
        iov_base: place.as_mut_ptr().cast(),
        iov_len: 8,
    };
    let too_long = libc::iovec {
        iov_len: usize::MAX,
        ..one
    };
    let four = libc::iovec { iov_len: 4, ..one };
    let calls: [(RawFd, bool, &libc::iovec, libc::c_int); 11] = [
        (near.as_raw_fd(), false, &one, 0),
        (near.as_raw_fd(), false, &one, -1),
        (near.as_raw_fd(), false, &too_long, 1),
        (near.as_raw_fd(), true, &one, -1),
        (out.as_raw_fd(), false, &too_long, 1),
        (out.as_raw_fd(), true, &one, 1),
        (into.as_raw_fd(), false, &one, 1),
        (listener.as_raw_fd(), false, &one, 1),
        (epoll.as_raw_fd(), false, &one, 1),
        (events.as_raw_fd(), false, &four, 1),
        (events.as_raw_fd(), true, &four, 1),
    ];
    for (fd, write, buffer, count) in calls {
        // Twice: the first may find out what the second then knows.
        for _ in 0..2 {
            // SAFETY: a place of eight bytes; what says more is refused.
            let call = || unsafe {
                match write {
                    true => libc::writev(fd, buffer, count),
                    false => libc::readv(fd, buffer, count),
                }
            };
            let said = |answer: isize| {
                (
                    answer,
                    code(
                        (answer >= 0)
                            .then_some(())
                            .ok_or_else(io::Error::last_os_error),
                    ),
                )
            };
            assert_eq!(said(call()), said(crore::hook::unhooked(call)));
        }
    }
}

/// Every way to read and write a file.
fn files() {
    let mut file = super::files::file();
    let bytes: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    file.write_all(&bytes[..100_000]).unwrap();
    let rest = [100_000..600_000, 600_000..1 << 20].map(|part| IoSlice::new(&bytes[part]));
    assert_eq!(file.write_vectored(&rest).unwrap(), bytes.len() - 100_000);
    file.write_all_at(&bytes[5..7], 5).unwrap();
    file.rewind().unwrap();
    let mut back = vec![0; 600_000];
    file.read_exact(&mut back).unwrap();
    let mut more = [vec![0; 400_000], vec![0; 100_000]];
    let [first, second] = &mut more;
    let mut both = [IoSliceMut::new(first), IoSliceMut::new(second)];
    let read = file.read_vectored(&mut both).unwrap();
    back.extend(more.concat().into_iter().take(read));
    assert!(back == bytes);
    let mut three = [0; 3];
    file.read_exact_at(&mut three, 1_000).unwrap();
    assert_eq!(three, bytes[1_000..1_003]);
    // At its end, and through a handle that is not for it.
    assert_eq!(file.read(&mut three).unwrap(), 0);
    let only_read = File::open("/proc/self/exe").unwrap();
    assert_eq!(code((&only_read).write(b"x")), Some(libc::EBADF));
    assert_eq!(code(only_read.write_at(b"x", 0)), Some(libc::EBADF));
    // With flags the call is asked for by its name: as on a thread.
    let with_flags = || {
        let vec = libc::iovec {
            iov_base: three.as_ptr().cast_mut().cast(),
            iov_len: 3,
        };
        // SAFETY: three bytes that are read.
        let result = unsafe { libc::pwritev2(file.as_raw_fd(), &vec, 1, 0, libc::RWF_DSYNC) };
        (
            result,
            code(if result < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            }),
        )
    };
    assert_eq!(with_flags(), crore::hook::unhooked(with_flags));
    file.seek(SeekFrom::Start(10)).unwrap();
    file.sync_all().unwrap();
    file.read_exact(&mut three).unwrap();
    assert_eq!(three, bytes[10..13]);
}

/// `write` of more than there is room for, to what has its reader on the same worker.
#[allow(clippy::incompatible_msrv, reason = "tests may use what is younger")]
fn large_writes() {
    let mut ends = [0; 2];
    // SAFETY: a place for two descriptors, which are owned from here on.
    let pipe = unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        ends.map(|end| OwnedFd::from_raw_fd(end))
    };
    let (near, far) = UnixStream::pair().unwrap();
    for [reads, writes] in [pipe, [near.into(), far.into()]] {
        let mut writes = File::from(writes);
        let writer = crore::spawn(move || writes.write_all(&[7; 1 << 20]).unwrap());
        let mut all = Vec::new();
        File::from(reads).read_to_end(&mut all).unwrap();
        writer.join().unwrap();
        assert!(all == [7; 1 << 20]);
    }
}

#[test]
fn what_an_old_kernel_lacks_is_done_without() {
    succeeds("absent::what_an_old_kernel_lacks_is_done_without", || {
        let calls = recent().into_iter().chain([libc::SYS_clone3]).collect();
        without(calls, libc::ENOSYS);
    });
}

// Not `clone3`: where that is refused so, libc starts no thread.
#[test]
fn what_a_filter_does_not_know_is_done_without() {
    succeeds(
        "absent::what_a_filter_does_not_know_is_done_without",
        || {
            without(recent(), libc::EPERM);
        },
    );
}

// As file systems say it, and libc for the kernel.
#[test]
fn flags_may_be_unknown() {
    succeeds("absent::flags_may_be_unknown", || {
        without(
            vec![libc::SYS_preadv2, libc::SYS_pwritev2],
            libc::EOPNOTSUPP,
        );
    });
}

/// The disk may have to be waited for, which the kernel does not say then.
#[test]
fn files_are_read_by_helpers_where_the_kernel_can_not_be_asked() {
    let name = "absent::files_are_read_by_helpers_where_the_kernel_can_not_be_asked";
    succeeds(name, || {
        crore::run(|| {
            let mut file = super::files::file();
            file.write_all(&[7; 1_000]).unwrap();
            refuse(&[always(libc::SYS_preadv2, libc::ENOSYS)]);
            assert_eq!(crore::blocking::threads(), 0);
            file.rewind().unwrap();
            file.read_exact(&mut [0; 1_000]).unwrap();
            assert_eq!(crore::blocking::threads(), 1);
        })
        .unwrap();
    });
}

/// `EPERM` may be meant.
#[test]
fn a_sealed_file_says_so() {
    succeeds("absent::a_sealed_file_says_so", || {
        crore::run(|| {
            // SAFETY: a name; a descriptor that is ours; flags.
            let file = unsafe {
                let fd = libc::memfd_create(c"sealed".as_ptr(), libc::MFD_ALLOW_SEALING);
                let file = File::from_raw_fd(fd);
                assert_eq!(libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_WRITE), 0);
                file
            };
            assert_eq!(code((&file).write(b"x")), Some(libc::EPERM));
            assert_eq!(code(file.write_at(b"x", 0)), Some(libc::EPERM));
            assert_eq!((&file).read(&mut [0]).unwrap(), 0);
        })
        .unwrap();
    });
}
