//! `getpwnam`, `getpwuid`, `getgrnam`, `getgrgid`: users and groups, in memory
//! of libc's.
//!
//! In a coroutine the answer lies in memory of the thread's, one for each kind
//! as in libc, good until the next such call on this thread. Made by the forms
//! with `_r` on a helper thread, see [`resolve`](crate::hook::net::resolve).

use std::ffi::{c_char, c_int};

use libc::{gid_t, group, passwd, uid_t};

use crate::hook::libc::next;
use crate::hook::net::resolve::answer::{Ask, Found, Latest, Movable, Room, find, keep};
use crate::hook::net::resolve::{look_up, owned, pointer};
use crate::hook::wait::retry::gate;
use crate::sched::Cx;
use crate::sys::syscall::set_errno;

/// The largest answer that is waited for.
const LARGEST: usize = 1 << 20;

/// Asks in larger and larger buffers.
fn ask<E: Movable + 'static>(
    cx: Cx,
    call: impl Fn(Ask<E>) -> c_int + Send + 'static,
) -> Option<Found<E>> {
    let found = look_up(cx, move || {
        let mut len = 1024;
        loop {
            let found = find(Room::aligned(len), &call);
            if found.code != libc::ERANGE || len >= LARGEST {
                return found;
            }
            len *= 2;
        }
    });
    // What goes wrong on the way has set errno; the `_r` forms return it.
    found.ok().inspect(|found| {
        if found.code != 0 {
            set_errno(found.code);
        }
    })
}

/// A number is its own.
///
/// # Safety
///
/// - None; `unsafe` as [`owned`] is, in whose place it stands.
unsafe fn number(id: uid_t) -> uid_t {
    id
}

macro_rules! users {
    ($($name:ident($what:ident: $ty:ty, $own:path, $asked:expr) -> $entry:ty = $with_place:ident, $latest:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($what: $ty) -> *mut $entry {
                let Some(cx) = gate() else {
                    // SAFETY: the caller's argument.
                    return unsafe { next::$name($what) };
                };
                // SAFETY: the caller's argument.
                let question = unsafe { $own($what) };
                // SAFETY: our own question and places.
                let found = ask(cx, move |(e, b, n, o, _)| unsafe {
                    next::$with_place($asked(&question), e, b, n, o)
                });
                $latest(found)
            }
        )*
    };
}

/// Keeps the answer for the thread, and says where it is.
macro_rules! kept {
    ($($name:ident: $entry:ty;)*) => {
        $(
            fn $name(found: Option<Found<$entry>>) -> *mut $entry {
                thread_local! {
                    static LATEST: Latest<$entry> = const { Latest::none() };
                }
                found.map_or(std::ptr::null_mut(), |found| keep(&LATEST, found))
            }
        )*
    };
}

kept! {
    keep_user: passwd;
    keep_group: group;
}

users! {
    getpwnam(name: *const c_char, owned, pointer) -> passwd = getpwnam_r, keep_user;
    getpwuid(id: uid_t, number, uid_t::clone) -> passwd = getpwuid_r, keep_user;
    getgrnam(name: *const c_char, owned, pointer) -> group = getgrnam_r, keep_group;
    getgrgid(id: gid_t, number, gid_t::clone) -> group = getgrgid_r, keep_group;
}
