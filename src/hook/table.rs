//! The table of calls: which functions of libc are hooked, where, and what each
//! does in a coroutine.
//!
//! From it come the page [`calls`] and the look-up of libc's own functions.

/// A row: the folders and files of hooks with their names, a word on the row if
/// there is one, and what happens.
macro_rules! table {
    ($(
        $($(#[$cfg:meta])* $($module:ident)::+ { $($name:ident)* })*
        $($more:literal)?
        => $what:literal;
    )*) => {
        /// What happens to which call of libc, inside a coroutine.
        ///
        /// | calls | what happens |
        /// |---|---|
        $(#[doc = concat!(
            "|", $(" `", $(" ", stringify!($name),)* " `",)* $(" ", $more,)? " | ", $what, " |"
        )])*
        pub mod calls {}

        /// Looks all of libc's own functions up.
        #[cfg(feature = "hook")]
        extern "C" fn look_up() {
            $($($(#[$cfg])* {
                use super::$($module)::+ as module;
                $(module::$name::look_up();)*
            })*)*
            super::libc::next::all_looked_up();
        }
    };
}

/// Run by the dynamic linker before `main`.
#[cfg(feature = "hook")]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = look_up;

table! {
    net::message { recv recvfrom recvmsg send sendto sendmsg }
        => "tried with `MSG_DONTWAIT`; parks on `EAGAIN`; a send returns when all is taken";
    net::mmsg { recvmmsg sendmmsg }
        => "the same, in batches";
    files::read_write { read readv write writev }
        => "tried with `RWF_NOWAIT`, or after `poll` where that does not work";
    "the same on a regular file"
        => "reads what is in memory at once, a helper thread reads the rest, with no other \
            coroutine's read in between; writes go to the page cache at once, each by one call";
    "`write writev` on stdout and stderr"
        => "block the thread, whose `println!` holds a lock meanwhile; with own thread-locals as \
            any other";
    files::positioned {
        pread pread64 pwrite pwrite64 preadv preadv64 pwritev pwritev64
        preadv2 preadv64v2 pwritev2 pwritev64v2
    }
        => "tried with `RWF_NOWAIT`, else a helper thread by way of a buffer of its own; on file \
            systems without that, direct";
    files::positioned { fsync fdatasync syncfs }
        => "helper thread";
    files::open { open open64 openat openat64 creat creat64 }
        => "a FIFO without its other end is tried again up to every 10 ms; everything else is \
            direct";
    files::locks { flock lockf lockf64 } "`fcntl(F_SETLKW)`"
        => "tried without waiting, again up to every 10 ms; never `EDEADLK`";
    files::sendfile { copy_file_range }
        => "helper thread";
    files::sendfile { sendfile sendfile64 }
        => "between files a helper thread; to a socket or pipe by way of a buffer of 64 KiB";
    files::sendfile { splice }
        => "into a pipe, or from a pipe to a file, without waiting once both are ready; from a \
            pipe to a socket by way of a buffer";
    net::connect { accept accept4 }
        => "`poll`, then the call; parks until a connection is there; see \
            [listeners](crate::hook#listeners-of-several-threads) of several threads";
    net::connect { connect }
        => "non-blocking for this one call, parks until settled; a full Unix backlog is tried \
            again up to every 10 ms";
    poll { poll ppoll __poll } poll::select { select pselect }
        => "asked without waiting, then parks on all; urgent data or errors only are asked for \
            again every 5 ms, so are signals that a mask lets in; a mask does not hold while parked";
    poll::epoll { epoll_wait epoll_pwait epoll_pwait2 }
        => "asked without waiting, then parks until the epoll itself is readable: another \
            runtime inside a coroutine";
    process::sleep { nanosleep clock_nanosleep usleep sleep }
    #[cfg(not(target_feature = "crt-static"))]
    process::c11 { thrd_sleep }
        => "a timer; other clocks than realtime, monotonic and boottime block the thread";
    process::sleep { sched_yield }
    #[cfg(not(target_feature = "crt-static"))]
    process::c11 { thrd_yield }
        => "yields to other coroutines";
    #[cfg(not(target_feature = "crt-static"))]
    net::resolve {
        getaddrinfo getnameinfo gethostbyname gethostbyname2 gethostbyaddr
        gethostbyname_r gethostbyname2_r gethostbyaddr_r
    }
    #[cfg(not(target_feature = "crt-static"))]
    net::passwd {
        getpwnam getpwuid getgrnam getgrgid getpwnam_r getpwuid_r getgrnam_r getgrgid_r
    }
        => "helper thread; not in statically linked programs";
    process::wait { waitpid wait4 waitid } "for one child"
        => "parks on a pidfd";
    process::wait { wait wait3 } "and the above for any child, a group, or stops"
        => "asked again up to every 10 ms";
    #[cfg(not(target_feature = "crt-static"))]
    process::join { pthread_join pthread_timedjoin_np pthread_clockjoin_np }
    #[cfg(not(target_feature = "crt-static"))]
    process::c11 { thrd_join }
        => "asked again up to every 10 ms; not in statically linked programs";
    #[cfg(not(target_feature = "crt-static"))]
    process::thread_id {
        pthread_getattr_np pthread_getaffinity_np pthread_setaffinity_np pthread_getcpuclockid
        pthread_getschedparam pthread_setschedparam pthread_setschedprio pthread_sigqueue
        setuid setgid seteuid setegid setreuid setregid setresuid setresgid setgroups initgroups
    }
        => "as libc; from a coroutine with its own thread-locals, with its thread's number, or as \
            its thread";
    fd::lifecycle { close close_range closefrom dup2 dup3 }
        => "coroutines that wait on the number fail with `EBADF` first";
    fd::lifecycle { socket socketpair pipe pipe2 dup }
    files::fcntl { fcntl fcntl64 ioctl }
    net::connect { setsockopt }
        => "as libc; noted where a number begins or its flags change";
    fd::lifecycle { vfork }
        => "`fork`";
    libc::fortify {
        __read_chk __pread_chk __pread64_chk __recv_chk __recvfrom_chk __poll_chk __ppoll_chk
        __open_2 __open64_2 __openat_2 __openat64_2
    }
        => "the checks of `_FORTIFY_SOURCE`, then as above";
    "`shutdown listen bind fork posix_spawn exec*`"
        => "libc's own: they don't wait; `shutdown` wakes the coroutines that wait on the socket";
    #[cfg(feature = "futex")]
    futex { syscall } "with `SYS_futex`: locks of std and others"
        => "parks in a table by address; no cancellation ends it";
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::mutex {
        pthread_mutex_lock pthread_mutex_timedlock pthread_mutex_clocklock pthread_mutex_trylock
        pthread_mutex_unlock
    }
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::cond {
        pthread_cond_wait pthread_cond_timedwait pthread_cond_clockwait pthread_cond_signal
        pthread_cond_broadcast
    }
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::rwlock {
        pthread_rwlock_rdlock pthread_rwlock_timedrdlock pthread_rwlock_clockrdlock
        pthread_rwlock_wrlock pthread_rwlock_timedwrlock pthread_rwlock_clockwrlock
        pthread_rwlock_unlock
    }
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::sem { sem_wait sem_timedwait sem_clockwait sem_post }
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::once { pthread_once }
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::c11 {
        mtx_lock mtx_timedlock mtx_trylock mtx_unlock cnd_wait cnd_timedwait cnd_signal
        cnd_broadcast call_once
    }
        => "the same; not in statically linked programs";
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::barrier { pthread_barrier_init pthread_barrier_wait pthread_barrier_destroy }
        => "the same, unless shared between processes: then they block the thread";
    "other `syscall`s"
        => "as libc";
    "`sigwait* pause sigsuspend mq_* msgrcv msgsnd semop tee vmsplice pthread_spin_lock`"
        => "libc's own: they block the thread";
}
