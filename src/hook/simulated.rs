//! Calls that never wait, and are hooked for simulations alone: clocks, chance, names
//! of sockets and files. In a simulation each is the system call, which the simulator answers
//! (`src/sys/simulated.rs`); everywhere else it is libc's own.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{clockid_t, size_t, sockaddr, socklen_t, ssize_t, time_t, timespec, timeval, utsname};

use crate::hook::libc::hook;
use crate::sys::simulated;
use crate::sys::syscall::set_errno;

macro_rules! as_system_calls {
    ($($number:ident fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty;)*) => {
        $(hook!(
            next_or($number),
            unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
                // SAFETY: the caller's arguments.
                unsafe { $name::next($($arg),*) }
            }
        );)*
    };
}

as_system_calls! {
    SYS_clock_gettime fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int;
    SYS_gettimeofday fn gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int;
    SYS_getrandom fn getrandom(bytes: *mut c_void, len: size_t, flags: c_uint) -> ssize_t;
    SYS_bind fn bind(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int;
    SYS_listen fn listen(fd: c_int, backlog: c_int) -> c_int;
    SYS_getsockname fn getsockname(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int;
    SYS_getpeername fn getpeername(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int;
    SYS_getsockopt fn getsockopt(
        fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t
    ) -> c_int;
    SYS_shutdown fn shutdown(fd: c_int, how: c_int) -> c_int;
    SYS_renameat fn renameat(
        dir: c_int, from: *const c_char, new_dir: c_int, to: *const c_char
    ) -> c_int;
    SYS_unlinkat fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int;
}

hook!(
    next_or(sys!(SYS_renameat, libc::AT_FDCWD, from, libc::AT_FDCWD, to)),
    unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
        // SAFETY: the caller's paths.
        unsafe {
            match simulated::world() {
                None => rename::next(from, to),
                Some(_) => renameat::next(libc::AT_FDCWD, from, libc::AT_FDCWD, to),
            }
        }
    }
);

hook!(
    next_or(sys!(SYS_unlinkat, libc::AT_FDCWD, path, 0)),
    unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
        // SAFETY: the caller's path.
        unsafe {
            match simulated::world() {
                None => unlink::next(path),
                Some(_) => unlinkat::next(libc::AT_FDCWD, path, 0),
            }
        }
    }
);

hook!(
    next,
    unsafe extern "C" fn time(place: *mut time_t) -> time_t {
        if simulated::world().is_none() {
            // SAFETY: the caller's place, or null.
            return unsafe { time::next(place) };
        }
        let now = realtime().tv_sec;
        // SAFETY: as above.
        if let Some(place) = unsafe { place.as_mut() } {
            *place = now;
        }
        now
    }
);

hook!(
    next,
    unsafe extern "C" fn timespec_get(place: *mut timespec, base: c_int) -> c_int {
        /// `TIME_UTC`.
        const UTC: c_int = 1;
        if simulated::world().is_none() || base != UTC {
            // SAFETY: the caller's place.
            return unsafe { timespec_get::next(place, base) };
        }
        // SAFETY: as above.
        unsafe { place.write(realtime()) };
        UTC
    }
);

fn realtime() -> timespec {
    crate::sys::clock::now(libc::CLOCK_REALTIME)
}

hook!(
    next,
    unsafe extern "C" fn getentropy(bytes: *mut c_void, len: size_t) -> c_int {
        if simulated::world().is_none() {
            // SAFETY: the caller's place.
            return unsafe { getentropy::next(bytes, len) };
        }
        // So says its page.
        if len > 256 {
            set_errno(libc::EIO);
            return -1;
        }
        // SAFETY: as above; a simulation gives all that is asked for.
        let given = unsafe { getrandom::next(bytes, len, 0) };
        if given == len as ssize_t { 0 } else { -1 }
    }
);

hook!(
    next,
    unsafe extern "C" fn gethostname(place: *mut c_char, len: size_t) -> c_int {
        let Some(name) = simulated::world().and_then(|world| world.host_name()) else {
            // SAFETY: the caller's place.
            return unsafe { gethostname::next(place, len) };
        };
        // SAFETY: as above.
        if unsafe { copy_name(name, place, len) } {
            return 0;
        }
        set_errno(libc::ENAMETOOLONG);
        -1
    }
);

hook!(
    next,
    unsafe extern "C" fn uname(place: *mut utsname) -> c_int {
        // SAFETY: the caller's place.
        let answer = unsafe { uname::next(place) };
        let name = simulated::world().and_then(|world| world.host_name());
        if let (0, Some(name)) = (answer, name) {
            // SAFETY: as above, which is filled in.
            let node = unsafe { &mut (*place).nodename };
            // SAFETY: a place of so many bytes. A longer name is cut off.
            let _ = unsafe { copy_name(name, node.as_mut_ptr(), node.len()) };
        }
        answer
    }
);

/// As a C string; whether there was room for all of it, and for its end.
///
/// # Safety
///
/// - `len` bytes at `place` may be written.
unsafe fn copy_name(name: &str, place: *mut c_char, len: usize) -> bool {
    let bytes = name.bytes().chain([0]).take(len);
    for (at, byte) in bytes.enumerate() {
        // SAFETY: within the caller's bytes.
        unsafe { place.add(at).write(byte as c_char) };
    }
    name.len() < len
}
