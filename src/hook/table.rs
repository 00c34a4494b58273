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

        /// All that are hooked, each with a nul.
        #[cfg(all(feature = "hook", not(target_feature = "crt-static")))]
        pub(super) const NAMES: &[&str] = &[
            $($($(concat!(stringify!($name), "\0"),)*)*)*
        ];

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
        => "tried with `RWF_NOWAIT`, or after `poll` where that does not work: then a FIFO, a \
            terminal or an old kernel's pipe is opened once more for the call, so that it does \
            not wait; terminals are read by `VMIN` and `VTIME`";
    "the same on a regular file or a disk"
        => "reads what is in memory at once, a helper thread reads the rest, with no other \
            coroutine's read in between; writes go to the page cache at once, each by one call, \
            and those that go to the disk to a helper thread";
    "`write writev` on stdout and stderr"
        => "block the thread, whose `println!` holds a lock meanwhile; with own thread-locals as \
            any other";
    files::positioned {
        pread pread64 pwrite pwrite64 preadv preadv64 pwritev pwritev64
    }
    files::with_flags { preadv2 preadv64v2 pwritev2 pwritev64v2 }
        => "tried with `RWF_NOWAIT`, else a helper thread, by one call; on file systems without \
            that direct, unless it goes to the disk (`O_DIRECT`, `O_DSYNC`, `O_SYNC`); where \
            kernel or filter refuse to be asked, a helper";
    files::positioned { fsync fdatasync syncfs }
        => "helper thread";
    files::disk {
        sync msync sync_file_range fallocate fallocate64 posix_fallocate posix_fallocate64
        ftruncate ftruncate64 truncate truncate64
    }
        => "helper thread";
    #[cfg(not(target_feature = "crt-static"))]
    files::terminal { tcdrain tcsendbreak tcsetattr }
    "`ioctl(TCSBRK)`, `TCSBRKP`, `TIOCMIWAIT`"
        => "a thread of their own waits for the device; not in statically linked programs";
    files::open { open open64 openat openat64 creat creat64 }
        => "a FIFO without its other end is tried again up to every 10 ms; everything else is \
            direct";
    files::locks { flock lockf lockf64 } "`fcntl(F_SETLKW)`"
        => "tried without waiting, again up to every 10 ms; never `EDEADLK`";
    files::sendfile { copy_file_range }
        => "helper thread";
    files::sendfile { sendfile sendfile64 }
        => "between files a helper thread; to a socket, pipe or terminal by way of a buffer of \
            64 KiB";
    files::splice { tee vmsplice }
        => "without waiting, once the pipes are ready";
    files::eventfd { eventfd_read eventfd_write }
        => "`read` and `write`";
    files::splice { splice }
        => "into a pipe, or from a pipe to a file, without waiting once both are ready; from a \
            pipe to a socket or terminal by way of a buffer; each end waits by its own flags";
    net::connect { accept accept4 }
        => "`poll`, then the call; parks until a connection is there; see \
            [listeners](crate::hook#listeners-of-several-threads) of several threads";
    net::connect { connect }
        => "non-blocking for this one call, parks until settled; a full Unix backlog is tried \
            again up to every 10 ms";
    poll { poll ppoll __poll } poll::select { select pselect }
        => "asked without waiting, then parks on all; signals that a mask lets in are asked for \
            again every 5 ms; a mask does not hold while parked";
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
    net::databases {
        getpwnam getpwuid getpwent getgrnam getgrgid getgrent getspnam getspent
        getservbyname getservbyport getservent getprotobyname getprotobynumber getprotoent
        getpwnam_r getpwuid_r getpwent_r getgrnam_r getgrgid_r getgrent_r getspnam_r getspent_r
        getservbyname_r getservbyport_r getservent_r
        getprotobyname_r getprotobynumber_r getprotoent_r
        getgrouplist initgroups innetgr
    }
        => "helper thread; not in statically linked programs";
    #[cfg(not(target_feature = "crt-static"))]
    net::query {
        res_query res_search res_querydomain res_send
        __res_query __res_search __res_querydomain __res_send
    }
        => "helper thread, with the resolver's state of that thread; not in statically linked \
            programs";
    process::wait { waitpid wait4 waitid } "for one child"
        => "parks on a pidfd";
    process::wait { wait wait3 } "and the above for any child, a group, or stops"
        => "asked again up to every 10 ms";
    #[cfg(not(target_feature = "crt-static"))]
    process::command { system pclose }
        => "a thread of their own waits, however many there are; cancelled, the call ends and the \
            command goes on";
    #[cfg(not(target_feature = "crt-static"))]
    process::command { popen }
        => "libc's own: it does not wait; noted where a number begins";
    process::queues { mq_receive mq_timedreceive mq_send mq_timedsend }
        => "tried without waiting, then parks on the queue";
    process::queues { msgrcv msgsnd semop semtimedop }
        => "tried with `IPC_NOWAIT`, again up to every 10 ms; semaphore operations of which \
            some have that flag and some not block the thread";
    #[cfg(not(target_feature = "crt-static"))]
    files::aio { aio_suspend aio_suspend64 lio_listio lio_listio64 }
    #[cfg(not(target_feature = "crt-static"))]
    net::later { getaddrinfo_a gai_suspend }
        => "asked again up to every 10 ms; not in statically linked programs";
    process::signals { sigwait sigwaitinfo sigtimedwait }
        => "the thread's signals are asked for without waiting, again up to every 10 ms";
    process::signals { sigsuspend }
    #[cfg(not(target_feature = "crt-static"))]
    process::signals { pause }
        => "end once a handler of the program's has run, on whichever thread: asked again up to \
            every 10 ms; a mask does not hold while parked. In statically linked programs \
            `pause` blocks the thread, and so does `sigsuspend` if its mask lets nothing in that \
            was blocked";
    #[cfg(not(target_feature = "crt-static"))]
    process::handlers { sigaction signal bsd_signal ssignal sysv_signal __sysv_signal sigset }
        => "as libc; the calls of a handler are those of a thread, whatever it has interrupted; \
            not in statically linked programs";
    #[cfg(not(target_feature = "crt-static"))]
    process::jump { longjmp _longjmp siglongjmp __longjmp_chk }
        => "as libc; into a coroutine or generator that does not run there, out of crore's own \
            code, out of `run` and out of a generator's body, which signal handlers may try, the \
            process ends with the reason; not in statically linked programs";
    #[cfg(not(target_feature = "crt-static"))]
    process::exit { exit }
        => "who calls `exit` second parks for good, and who calls `pause` then; the handlers of the \
            first block the thread, with own thread-locals they park; not in statically linked \
            programs";
    #[cfg(not(target_feature = "crt-static"))]
    process::join { pthread_join pthread_timedjoin_np pthread_clockjoin_np }
    #[cfg(not(target_feature = "crt-static"))]
    process::c11 { thrd_join }
        => "asked again up to every 10 ms; not in statically linked programs";
    #[cfg(not(target_feature = "crt-static"))]
    process::thread_id {
        pthread_getattr_np pthread_getaffinity_np pthread_setaffinity_np pthread_getcpuclockid
        pthread_getschedparam pthread_setschedparam pthread_setschedprio pthread_sigqueue
        setuid setgid seteuid setegid setreuid setregid setresuid setresgid setgroups
    }
        => "as libc; from a coroutine with its own thread-locals, with its thread's number, or as \
            its thread";
    #[cfg(all(
        feature = "futex", target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    threads::create { pthread_create }
    #[cfg(all(
        feature = "futex", target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    threads::exit { pthread_exit }
    #[cfg(all(
        feature = "futex", target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    threads::join { pthread_tryjoin_np pthread_detach }
    #[cfg(all(
        feature = "futex", target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    threads::name { pthread_setname_np pthread_getname_np }
    #[cfg(all(
        feature = "futex", target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    threads::kill { pthread_kill raise }
    #[cfg(all(
        feature = "futex", target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    threads::number { gettid tgkill }
    #[cfg(all(
        feature = "futex", target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    threads::interrupt { pthread_cancel pthread_testcancel pthread_setcancelstate pthread_setcanceltype }
    #[cfg(all(
        feature = "futex", target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    threads::mask { pthread_sigmask sigprocmask sigpending }
    #[cfg(all(
        feature = "futex", target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    threads::alt_stack { sigaltstack }
    #[cfg(all(
        feature = "futex", target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    threads::c11 { thrd_create thrd_detach thrd_exit }
        => "as libc, unless the runtime makes [threads \
            coroutines](crate::RuntimeBuilder::threads_as_coroutines)";
    fd::lifecycle { close close_range closefrom dup2 dup3 }
        => "coroutines that wait on the number fail with `EBADF` first; a socket with `SO_LINGER` \
            is closed by a thread of its own, but not by `close_range` and `closefrom`";
    #[cfg(not(target_feature = "crt-static"))]
    fd::streams { closedir mq_close }
    #[cfg(all(
        not(all(feature = "futex", target_env = "gnu")), not(target_feature = "crt-static")
    ))]
    fd::files { fclose freopen freopen64 }
        => "the same, then libc's own; not in statically linked programs";
    fd::lifecycle { socket socketpair pipe pipe2 dup }
    files::fcntl { fcntl fcntl64 ioctl }
    net::connect { setsockopt }
        => "as libc; noted where a number begins or its flags change";
    fd::lifecycle { vfork __vfork }
        => "`fork`";
    #[cfg(not(target_feature = "crt-static"))]
    fd::lifecycle { _Fork }
        => "as libc; the child is told that it is one, as `fork`'s is; not in statically linked \
            programs";
    libc::fortify {
        __read_chk __pread_chk __pread64_chk __recv_chk __recvfrom_chk __poll_chk __ppoll_chk
        __open_2 __open64_2 __openat_2 __openat64_2
    }
        => "the checks of `_FORTIFY_SOURCE`, then as above";
    #[cfg(not(target_feature = "crt-static"))]
    libc::aliases {
        __read __write __pread64 __pwrite64 __send __connect __open __open64 __close __dup2
        __pipe __fcntl __select __nanosleep __sched_yield __sigsuspend __waitpid __wait
    }
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::aliases {
        __pthread_mutex_lock __pthread_mutex_trylock __pthread_mutex_unlock
        __pthread_rwlock_rdlock __pthread_rwlock_wrlock __pthread_rwlock_unlock
    }
        => "glibc's other names for what is here without the underscores";
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
    futex::pthread::once { pthread_once __pthread_once }
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::c11 {
        mtx_lock mtx_timedlock mtx_trylock mtx_unlock cnd_wait cnd_timedwait cnd_signal
        cnd_broadcast call_once
    }
        => "the same; not in statically linked programs";
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::barrier { pthread_barrier_init pthread_barrier_wait pthread_barrier_destroy }
        => "the same, unless shared between processes: then they block the thread";
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::file_lock { flockfile ftrylockfile funlockfile }
        => "the same: one coroutine at a time holds the lock of a `FILE`";
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    stdio {
        fgetc getc _IO_getc getchar getw fgets fread getline getdelim __getdelim ungetc
        fgetc_unlocked getc_unlocked getchar_unlocked __uflow __underflow
        fgets_unlocked fread_unlocked
        __fgets_chk __fgets_unlocked_chk __fread_chk __fread_unlocked_chk
        fgetwc getwc getwchar fgetws ungetwc
        fgetwc_unlocked getwc_unlocked getwchar_unlocked fgetws_unlocked
        fputc putc _IO_putc putchar putw fputs puts fwrite
        fputc_unlocked putc_unlocked putchar_unlocked __overflow fputs_unlocked fwrite_unlocked
        fputwc putwc putwchar fputws
        fputwc_unlocked putwc_unlocked putwchar_unlocked fputws_unlocked
        fseek fseeko fseeko64 rewind ftell ftello ftello64 fgetpos fgetpos64 fsetpos fsetpos64
        setvbuf setbuf setbuffer setlinebuf fflush fflush_unlocked fclose freopen freopen64
    }
        => "the lock as above; then libc's own, which reads and writes the descriptor by the \
            hooked `read` and `write`; where libc is not made as is expected, it blocks the thread";
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    stdio {
        printf fprintf dprintf vprintf vfprintf vdprintf
        __printf_chk __fprintf_chk __dprintf_chk __vprintf_chk __vfprintf_chk __vdprintf_chk
    }
        => "formatted, then written as `fwrite` or `write` does";
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    stdio {
        wprintf fwprintf vwprintf vfwprintf
        __wprintf_chk __fwprintf_chk __vwprintf_chk __vfwprintf_chk
    }
        => "the lock as above; libc's own, which blocks the thread where it writes, but with own \
            thread-locals";
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    stdio {
        scanf fscanf vscanf vfscanf
        __isoc99_scanf __isoc99_fscanf __isoc99_vscanf __isoc99_vfscanf
    }
        => "the lock as above; parks until the buffer has something; waits for more than that \
            block the thread, but with own thread-locals";
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    stdio { syslog vsyslog __syslog_chk __vsyslog_chk }
        => "formatted, then a thread of its own waits for the log; no cancellation ends it";
    #[cfg(all(feature = "futex", target_env = "gnu", not(target_feature = "crt-static")))]
    futex::pthread::spin { pthread_spin_lock }
        => "spins for a while, then tried again up to every 10 ms";
    #[cfg(feature = "sim")]
    simulated {
        clock_gettime gettimeofday time timespec_get getrandom getentropy gethostname uname
        bind listen getsockname getpeername getsockopt shutdown
        rename renameat unlink unlinkat
    }
        => "as libc, but in a simulation";
    "other `syscall`s, `futex_waitv` among them"
        => "as libc";
    "`stat rename unlink mkdir readdir statfs readahead mlock dlopen` and other calls on names or \
     memory"
        => "libc's own, as threads make them: a disk or network file system that is slow stops the \
            thread";
    "`sigpause`"
        => "libc's own: it blocks the thread";
    "`fwscanf perror` and other functions on `FILE`s that are not named above"
        => "libc's own: they block the thread where they read, write, or wait for the lock";
    "`res_nquery getnetbyname getrpcbyname getaliasbyname ether_hostton`"
        => "libc's own: they block the thread; of the first the state is the caller's";
    "`wordexp lckpwdf getpass`, `open` of a leased file or of a terminal without a carrier"
        => "libc's own: they block the thread";
}
