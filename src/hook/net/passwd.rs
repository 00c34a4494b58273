//! The user and group databases: `getpwnam`, `getpwuid`, `getgrnam`, `getgrgid`, and
//! the same with `_r`. A helper thread makes the calls, as those of
//! [`resolve`](crate::hook::net::resolve).
//!
//! The forms without `_r` answer in memory of libc's. In a coroutine it is memory of
//! the thread's, one for each kind as in libc, good until the next such call on this
//! thread.

use std::ffi::{c_char, c_int};

use libc::{gid_t, group, passwd, size_t, uid_t};

use crate::hook::libc::hook;
use crate::hook::net::resolve::answer::{
    BufferLayout, Found, Latest, ReentrantArgs, Relocate, find, find_growing, keep,
};
use crate::hook::net::resolve::{look_up, owned, pointer};
use crate::hook::wait::call::in_coroutine;
use crate::sched::Cx;
use crate::sys::syscall::set_errno;

/// A call without `_r`: libc's with `_r` in a buffer of our own.
fn request<E: Relocate + 'static>(
    cx: Cx,
    call: impl Fn(ReentrantArgs<E>) -> c_int + Send + 'static,
) -> Option<Found<E>> {
    let found = look_up(cx, move || find_growing(|layout| find(layout, &call)));
    // What goes wrong on the way has set errno; the `_r` forms return it.
    found.ok().inspect(|found| {
        if found.code != 0 {
            set_errno(found.code);
        }
    })
}

/// A call with `_r`: the same in a buffer of our own, then moved to the caller's.
///
/// # Safety
///
/// - The places are the caller's of that call.
unsafe fn request_to<E: Relocate + 'static>(
    cx: Cx,
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
unsafe fn number(id: uid_t) -> uid_t {
    id
}

macro_rules! users {
    ($(fn $name:ident, fn $name_r:ident ($what:ident: $ty:ty, $own:path, $given:expr) -> $entry:ty;)*) => {
        $(
            hook!(
                next,
                Some(cx) = in_coroutine(),
                unsafe extern "C" fn $name($what: $ty) -> *mut $entry {
                    thread_local! {
                        static LATEST: Latest<$entry> = const { Latest::none() };
                    }
                    // SAFETY: the caller's argument.
                    let question = unsafe { $own($what) };
                    // SAFETY: our own question and places.
                    let found = request(cx, move |(e, b, n, o, _)| unsafe {
                        $name_r::next($given(&question), e, b, n, o)
                    });
                    found.map_or(std::ptr::null_mut(), |found| keep(&LATEST, found))
                }
            );

            hook!(
                next,
                Some(cx) = in_coroutine(),
                unsafe extern "C" fn $name_r(
                    $what: $ty,
                    entry: *mut $entry,
                    buf: *mut c_char,
                    len: size_t,
                    out: *mut *mut $entry,
                ) -> c_int {
                    // SAFETY: the caller's argument.
                    let question = unsafe { $own($what) };
                    // SAFETY: the caller's places; our own question and places.
                    unsafe {
                        request_to(cx, (entry, buf, len, out), move |(e, b, n, o, _)| {
                            $name_r::next($given(&question), e, b, n, o)
                        })
                    }
                }
            );
        )*
    };
}

users! {
    fn getpwnam, fn getpwnam_r (name: *const c_char, owned, pointer) -> passwd;
    fn getpwuid, fn getpwuid_r (id: uid_t, number, uid_t::clone) -> passwd;
    fn getgrnam, fn getgrnam_r (name: *const c_char, owned, pointer) -> group;
    fn getgrgid, fn getgrgid_r (id: gid_t, number, gid_t::clone) -> group;
}
