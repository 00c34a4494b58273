//! Questions to name servers: `res_query`, `res_search`, `res_querydomain`, `res_send`.
//! A helper thread asks, with the resolver's state of its own; that of the caller's
//! thread (`_res`) is not looked at.
//!
//! Not hooked: the same with `n` (`res_nquery`), whose state is the caller's.

use std::ffi::{c_char, c_int, c_uchar};

use crate::hook::libc::hook;
use crate::hook::net::resolve::{TRY_AGAIN, bytes, h_errno, look_up, owned, pointer, set_h_errno};
use crate::hook::wait::call::in_coroutine;
use crate::sched::CurrentTask;

/// Asks on a helper, with a place of our own for the answer.
///
/// # Safety
///
/// - `answer` is the caller's place for `room` bytes.
unsafe fn asked(
    cx: CurrentTask,
    (answer, room): (*mut c_uchar, c_int),
    ask: impl FnOnce(*mut c_uchar) -> c_int + Send + 'static,
) -> c_int {
    let most = usize::try_from(room).unwrap_or(0);
    let found = look_up(cx, move || {
        let mut place = vec![0; most];
        let len = ask(place.as_mut_ptr());
        place.truncate(usize::try_from(len).unwrap_or(0));
        (len, h_errno(), place)
    });
    let Ok((len, code, place)) = found else {
        set_h_errno(TRY_AGAIN);
        return -1;
    };
    set_h_errno(code);
    // SAFETY: the caller's place has so much room.
    unsafe { answer.copy_from_nonoverlapping(place.as_ptr(), place.len()) };
    len
}

macro_rules! questions {
    ($(fn $name:ident($($text:ident),*);)*) => {
        $(hook!(
            next,
            Some(cx) = in_coroutine(),
            unsafe extern "C" fn $name(
                $($text: *const c_char,)*
                class: c_int,
                kind: c_int,
                answer: *mut c_uchar,
                room: c_int,
            ) -> c_int {
                // SAFETY: the caller's strings.
                $(let $text = unsafe { owned($text) };)*
                // SAFETY: the caller's place; our own question and place.
                unsafe {
                    asked(cx, (answer, room), move |place| {
                        $name::next($(pointer(&$text),)* class, kind, place, room)
                    })
                }
            }
        );)*
    };
}

questions! {
    fn res_query(name);
    fn res_search(name);
    fn res_querydomain(name, domain);
}

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn res_send(
        message: *const c_uchar,
        len: c_int,
        answer: *mut c_uchar,
        room: c_int,
    ) -> c_int {
        // SAFETY: the caller's message.
        let message = unsafe { bytes(message, usize::try_from(len).unwrap_or(0)) };
        // SAFETY: the caller's place; our own message and place.
        unsafe {
            asked(cx, (answer, room), move |place| {
                res_send::next(message.as_ptr(), len, place, room)
            })
        }
    }
);

/// What programs call that were built with an older glibc.
macro_rules! older {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) = $plain:ident;)*) => {
        $(hook!(
            unsafe extern "C" fn $name($($arg: $ty,)* answer: *mut c_uchar, room: c_int) -> c_int {
                // SAFETY: the caller's arguments.
                unsafe { $plain($($arg,)* answer, room) }
            }
        );)*
    };
}

older! {
    fn __res_query(name: *const c_char, class: c_int, kind: c_int) = res_query;
    fn __res_search(name: *const c_char, class: c_int, kind: c_int) = res_search;
    fn __res_querydomain(name: *const c_char, domain: *const c_char, class: c_int, kind: c_int)
        = res_querydomain;
    fn __res_send(message: *const c_uchar, len: c_int) = res_send;
}
