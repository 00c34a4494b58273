//! The databases of users, groups, passwords, services and protocols: `getpwnam` and
//! its kin, the same with `_r`, and the groups of a user. A helper thread makes the
//! calls, as those of [`resolve`](crate::hook::net::resolve).
//!
//! The forms without `_r` answer in memory of libc's. In a coroutine it is memory of
//! the thread's, one for each kind as in libc, good until the next such call on this
//! thread.

use std::ffi::{c_char, c_int};

use libc::{gid_t, group, passwd, protoent, servent, size_t, spwd, uid_t};

use crate::hook::libc::hook;
use crate::hook::net::resolve::answer::{
    BufferLayout, Found, ReentrantArgs, Relocate, find, find_growing, keep,
};
use crate::hook::net::resolve::{look_up, owned, pointer};
use crate::hook::wait::call::{in_coroutine, on_helper};
use crate::sched::{CurrentTask, on_thread};
use crate::sys::syscall::{errno, set_errno};

/// A call without `_r`: libc's with `_r` in a buffer of our own.
fn request<E: Relocate + 'static>(
    cx: CurrentTask,
    call: impl Fn(ReentrantArgs<E>) -> c_int + Send + 'static,
) -> Option<Found<E>> {
    // What goes wrong, there or on the way, has set errno.
    look_up(cx, move || find_growing(|layout| find(layout, &call))).ok()
}

/// A call with `_r`: the same in a buffer of our own, then moved to the caller's.
///
/// # Safety
///
/// - The places are the caller's of that call.
unsafe fn request_to<E: Relocate + 'static>(
    cx: CurrentTask,
    (entry, buf, len, out): (*mut E, *mut c_char, size_t, *mut *mut E),
    call: impl Fn(ReentrantArgs<E>) -> c_int + Send + 'static,
) -> c_int {
    let layout = BufferLayout::of(buf, len);
    match look_up(cx, move || find(layout, &call)) {
        // SAFETY: the caller's places.
        Ok(found) => unsafe { found.give(entry, buf, len, out) },
        Err(code) => code,
    }
}

/// A number is its own copy.
///
/// # Safety
///
/// - None; `unsafe` as [`owned`] is, in whose place it stands.
unsafe fn number<N>(id: N) -> N {
    id
}

macro_rules! entries {
    ($(
        fn $name:ident, fn $name_r:ident
            ($($what:ident: $ty:ty, $own:path, $given:expr);*) -> $entry:ty;
    )*) => {
        $(
            hook!(
                next,
                Some(cx) = in_coroutine(),
                unsafe extern "C" fn $name($($what: $ty),*) -> *mut $entry {
                    // SAFETY: the caller's arguments.
                    #[allow(unused_unsafe, clippy::unused_unit, reason = "there may be none")]
                    let question = unsafe { ($($own($what),)*) };
                    let found = request(cx, move |(e, b, n, o, _)| {
                        let ($($what,)*) = &question;
                        // SAFETY: our own question and places.
                        unsafe { $name_r::next($($given($what),)* e, b, n, o) }
                    });
                    found.map_or(std::ptr::null_mut(), |found| keep(stringify!($name), found))
                }
            );

            hook!(
                next,
                Some(cx) = in_coroutine(),
                unsafe extern "C" fn $name_r(
                    $($what: $ty,)*
                    entry: *mut $entry,
                    buf: *mut c_char,
                    len: size_t,
                    out: *mut *mut $entry,
                ) -> c_int {
                    // SAFETY: the caller's arguments.
                    #[allow(unused_unsafe, clippy::unused_unit, reason = "there may be none")]
                    let question = unsafe { ($($own($what),)*) };
                    // SAFETY: the caller's places; our own question and places.
                    unsafe {
                        request_to(cx, (entry, buf, len, out), move |(e, b, n, o, _)| {
                            let ($($what,)*) = &question;
                            $name_r::next($($given($what),)* e, b, n, o)
                        })
                    }
                }
            );
        )*
    };
}

entries! {
    fn getpwnam, fn getpwnam_r (name: *const c_char, owned, pointer) -> passwd;
    fn getpwuid, fn getpwuid_r (id: uid_t, number, uid_t::clone) -> passwd;
    fn getpwent, fn getpwent_r () -> passwd;
    fn getgrnam, fn getgrnam_r (name: *const c_char, owned, pointer) -> group;
    fn getgrgid, fn getgrgid_r (id: gid_t, number, gid_t::clone) -> group;
    fn getgrent, fn getgrent_r () -> group;
    fn getspnam, fn getspnam_r (name: *const c_char, owned, pointer) -> spwd;
    fn getspent, fn getspent_r () -> spwd;
    fn getservbyname, fn getservbyname_r
        (name: *const c_char, owned, pointer; protocol: *const c_char, owned, pointer) -> servent;
    fn getservbyport, fn getservbyport_r
        (port: c_int, number, c_int::clone; protocol: *const c_char, owned, pointer) -> servent;
    fn getservent, fn getservent_r () -> servent;
    fn getprotobyname, fn getprotobyname_r (name: *const c_char, owned, pointer) -> protoent;
    fn getprotobynumber, fn getprotobynumber_r (id: c_int, number, c_int::clone) -> protoent;
    fn getprotoent, fn getprotoent_r () -> protoent;
}

hook!(
    next,
    Some(cx) = in_coroutine(),
    /// Has no way to say that it failed, so a cancelled coroutine waits on.
    unsafe extern "C" fn getgrouplist(
        user: *const c_char,
        group: gid_t,
        groups: *mut gid_t,
        count: *mut c_int,
    ) -> c_int {
        // SAFETY: the caller's string and place.
        let (user, room) = unsafe { (owned(user), *count) };
        let saved = errno();
        let found = on_helper(cx, [], move || {
            let mut all = vec![0; usize::try_from(room).unwrap_or(0)];
            let mut found = room;
            // SAFETY: our own string and places.
            let answer = unsafe {
                getgrouplist::next(pointer(&user), group, all.as_mut_ptr(), &raw mut found)
            };
            all.truncate(usize::try_from(found).unwrap_or(0));
            Ok((answer, found, all))
        });
        set_errno(saved);
        let Ok((answer, found, all)) = found else {
            return -1;
        };
        // SAFETY: the caller's places, with that room.
        unsafe {
            count.write(found);
            groups.copy_from_nonoverlapping(all.as_ptr(), all.len());
        }
        answer
    }
);

hook!(
    next,
    /// The look-up is the coroutine's; the groups are the process's
    /// (`process/thread_id.rs`).
    unsafe extern "C" fn initgroups(user: *const c_char, group: gid_t) -> c_int {
        if in_coroutine().is_none() {
            // SAFETY: the caller's string. libc tells all threads by signal; no code of
            // the program runs.
            return on_thread(|| unsafe { initgroups::next(user, group) });
        }
        let mut count: c_int = 32;
        let mut all: Vec<gid_t> = Vec::new();
        let mut look = || {
            let room = count.max(0);
            all.resize(room as usize, 0);
            // SAFETY: the caller's string, our own places. It says how many there are.
            let found =
                unsafe { libc::getgrouplist(user, group, all.as_mut_ptr(), &raw mut count) };
            (found >= 0, count > room)
        };
        loop {
            match look() {
                (true, _) => break,
                (false, true) => {}
                (false, false) => return -1,
            }
        }
        loop {
            // SAFETY: so many groups.
            let answer = unsafe { libc::setgroups(count as size_t, all.as_ptr()) };
            // More than the kernel takes: as many as it does, as libc.
            if answer == 0 || errno() != libc::EINVAL || count <= 1 {
                return answer;
            }
            count -= 1;
        }
    }
);

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn innetgr(
        group: *const c_char,
        host: *const c_char,
        user: *const c_char,
        domain: *const c_char,
    ) -> c_int {
        // SAFETY: the caller's strings.
        let question = [group, host, user, domain].map(|text| unsafe { owned(text) });
        let found = look_up(cx, move || {
            let [group, host, user, domain] = question.each_ref().map(pointer);
            // SAFETY: our own strings.
            unsafe { innetgr::next(group, host, user, domain) }
        });
        found.unwrap_or(0)
    }
);
