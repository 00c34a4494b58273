//! The resolver: `getaddrinfo`, `getnameinfo`, `gethostby…`. Users, groups and services,
//! which are looked up in the same way, are in `databases.rs`.
//!
//! libc makes these calls with sockets and files of its own, which no hook sees,
//! so a helper thread makes them. The job owns its questions and a buffer for the
//! answer ([`answer`]).
//!
//! A cancelled coroutine gets an error at once: `EAI_AGAIN` or `ECANCELED`.
//!
//! Left out of statically linked programs, where libc's own functions could
//! not be reached any more.

pub(crate) mod answer;

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use libc::{addrinfo, hostent, size_t, sockaddr, socklen_t};

use self::answer::{BufferLayout, Found, ReentrantArgs, find, find_growing, keep};
use crate::helpers;
use crate::hook::libc::hook;
use crate::hook::wait::call::in_coroutine;
use crate::sched::CurrentTask;
use crate::sys::simulated;
use crate::sys::syscall::{Errno, errno, set_errno};

unsafe extern "C" {
    fn __h_errno_location() -> *mut c_int;
}

/// What the last look-up of the thread said.
pub(crate) fn h_errno() -> c_int {
    // SAFETY: libc's own thread-local.
    unsafe { *__h_errno_location() }
}

pub(crate) fn set_h_errno(code: c_int) {
    // SAFETY: libc's own thread-local.
    unsafe { __h_errno_location().write(code) }
}

/// `netdb.h`'s.
pub(crate) const TRY_AGAIN: c_int = 2;
const NETDB_INTERNAL: c_int = -1;

/// A copy of the caller's string, or of its null.
///
/// # Safety
///
/// - `text` is null or a C string.
pub(crate) unsafe fn owned(text: *const c_char) -> Option<CString> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned())
}

pub(crate) fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())
}

/// Runs a look-up on a helper thread; errno is the helper's if it says so.
pub(crate) fn look_up<T: Send + 'static>(
    cx: CurrentTask,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Errno> {
    let saved = errno();
    let done = helpers::run(cx, move || {
        set_errno(0);
        let result = job();
        (result, errno())
    });
    match done {
        Ok((result, code)) => {
            set_errno(if code == 0 { saved } else { code });
            Ok(result)
        }
        Err(error) => {
            let code = match error.raw_os_error() {
                Some(libc::ETIME) => libc::ETIMEDOUT,
                code => code.unwrap_or(libc::ENOMEM),
            };
            set_errno(code);
            Err(code)
        }
    }
}

/// A list of addresses that is not the caller's yet.
struct AddressList(*mut addrinfo);

// SAFETY: a plain heap structure of libc's, with one owner.
unsafe impl Send for AddressList {}

impl Drop for AddressList {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: libc's list, of which this is the owner.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn getaddrinfo(
        node: *const c_char,
        service: *const c_char,
        hints: *const addrinfo,
        out: *mut *mut addrinfo,
    ) -> c_int {
        // SAFETY: the caller's strings and hints.
        let (node, service, hints) = unsafe {
            let hints = hints
                .as_ref()
                .map(|h| [h.ai_flags, h.ai_family, h.ai_socktype, h.ai_protocol]);
            (owned(node), owned(service), hints)
        };
        let (node, hints) = match simulated::world() {
            Some(world) => (
                node.map(|name| world.resolve(&name).unwrap_or(name)),
                Some(in_digits(hints)),
            ),
            None => (node, hints),
        };
        let found = look_up(cx, move || {
            let hints = hints.map(|[flags, family, kind, protocol]| {
                // SAFETY: zeros are a valid one.
                let mut hints: addrinfo = unsafe { std::mem::zeroed() };
                hints.ai_flags = flags;
                hints.ai_family = family;
                hints.ai_socktype = kind;
                hints.ai_protocol = protocol;
                hints
            });
            let hints = hints.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let mut list = AddressList(std::ptr::null_mut());
            // SAFETY: our own strings, hints and place.
            let code =
                unsafe { getaddrinfo::next(pointer(&node), pointer(&service), hints, &mut list.0) };
            (code, list)
        });
        match found {
            Ok((0, list)) => {
                let list = std::mem::ManuallyDrop::new(list);
                // SAFETY: the caller's place.
                unsafe { out.write(list.0) };
                0
            }
            Ok((code, _)) => code,
            Err(_) => libc::EAI_AGAIN,
        }
    }
);

/// As a simulation asks: it has given the digits of all names that it knows, and nobody
/// outside is asked for others, nor for the interfaces that are there.
fn in_digits(hints: Option<[c_int; 4]>) -> [c_int; 4] {
    // So it is with none, but for what is taken away here.
    let mut hints = hints.unwrap_or([libc::AI_V4MAPPED, libc::AF_UNSPEC, 0, 0]);
    hints[0] = hints[0] & !libc::AI_ADDRCONFIG | libc::AI_NUMERICHOST;
    hints
}

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn getnameinfo(
        addr: *const sockaddr,
        len: socklen_t,
        host: *mut c_char,
        host_len: socklen_t,
        service: *mut c_char,
        service_len: socklen_t,
        flags: c_int,
    ) -> c_int {
        // SAFETY: the caller's address.
        let address = unsafe { bytes(addr.cast(), len as usize) };
        let lens = [(host, host_len), (service, service_len)]
            .map(|(text, len)| if text.is_null() { 0 } else { len as usize });
        let found = look_up(cx, move || {
            let mut texts = lens.map(|len| vec![0u8; len]);
            let [(h, h_len), (s, s_len)] = texts.each_mut().map(|text| match text.len() {
                0 => (std::ptr::null_mut(), 0),
                len => (text.as_mut_ptr().cast(), len as socklen_t),
            });
            let addr = address.as_ptr().cast();
            // SAFETY: our own address and buffers.
            let code = unsafe {
                getnameinfo::next(addr, address.len() as socklen_t, h, h_len, s, s_len, flags)
            };
            (code, texts)
        });
        let Ok((code, texts)) = found else {
            return libc::EAI_AGAIN;
        };
        if code == 0 {
            for (place, text) in [host, service].into_iter().zip(&texts) {
                // The string, and none of what was behind it.
                let len = text.iter().position(|&byte| byte == 0);
                let len = len.map_or(text.len(), |end| end + 1);
                // SAFETY: the caller's buffer is as long as ours.
                unsafe { place.copy_from_nonoverlapping(text.as_ptr().cast(), len) };
            }
        }
        code
    }
);

/// # Safety
///
/// - `from` points at `len` bytes (or `len` is 0).
pub(crate) unsafe fn bytes(from: *const u8, len: usize) -> Vec<u8> {
    if len == 0 || from.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(from, len) }.to_vec()
}

/// A question about a host.
#[derive(Clone)]
enum HostQuery {
    Name(Option<CString>),
    NameIn(Option<CString>, c_int),
    Address(Vec<u8>, c_int),
}

impl HostQuery {
    fn find(&self, layout: BufferLayout) -> Found<hostent> {
        find(layout, |(e, b, n, o, code)| {
            // SAFETY: our own question and places.
            unsafe {
                match self {
                    Self::Name(name) => gethostbyname_r::next(pointer(name), e, b, n, o, code),
                    Self::NameIn(name, family) => {
                        gethostbyname2_r::next(pointer(name), *family, e, b, n, o, code)
                    }
                    Self::Address(bytes, family) => {
                        let (addr, len) = (bytes.as_ptr().cast(), bytes.len() as socklen_t);
                        gethostbyaddr_r::next(addr, len, *family, e, b, n, o, code)
                    }
                }
            }
        })
    }

    /// The `_r` form, in a coroutine.
    ///
    /// # Safety
    ///
    /// - The places are the caller's of that call.
    unsafe fn answer_to(self, cx: CurrentTask, place: ReentrantArgs<hostent>) -> c_int {
        let (entry, buf, len, out, h_errno) = place;
        let layout = BufferLayout::of(buf, len);
        match look_up(cx, move || self.find(layout)) {
            // SAFETY: the caller's places.
            Ok(found) => unsafe {
                h_errno.write(found.h_errno);
                found.give(entry, buf, len, out)
            },
            Err(code) => {
                // SAFETY: the caller's places.
                unsafe {
                    h_errno.write(TRY_AGAIN);
                    out.write(std::ptr::null_mut());
                }
                code
            }
        }
    }

    /// The form that answers in memory of libc's: here of the thread's, good
    /// until its next such call.
    fn answer(self, cx: CurrentTask) -> *mut hostent {
        let found = look_up(cx, move || find_growing(|layout| self.find(layout)));
        let (found, h_errno) = match found {
            Ok(found) => {
                let h_errno = found.h_errno;
                (Some(found), h_errno)
            }
            Err(_) => (None, NETDB_INTERNAL),
        };
        set_h_errno(h_errno);
        let Some(found) = found else {
            return std::ptr::null_mut();
        };
        keep("gethostby…", found)
    }
}

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn gethostbyname(name: *const c_char) -> *mut hostent {
        // SAFETY: the caller's string.
        HostQuery::Name(unsafe { owned(name) }).answer(cx)
    }
);

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
        // SAFETY: the caller's string.
        HostQuery::NameIn(unsafe { owned(name) }, family).answer(cx)
    }
);

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn gethostbyaddr(
        addr: *const c_void,
        len: socklen_t,
        family: c_int,
    ) -> *mut hostent {
        // SAFETY: the caller's address.
        HostQuery::Address(unsafe { bytes(addr.cast(), len as usize) }, family).answer(cx)
    }
);

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn gethostbyname_r(
        name: *const c_char,
        entry: *mut hostent,
        buf: *mut c_char,
        len: size_t,
        out: *mut *mut hostent,
        h_errno: *mut c_int,
    ) -> c_int {
        let place = (entry, buf, len, out, h_errno);
        // SAFETY: the caller's string and places.
        unsafe { HostQuery::Name(owned(name)).answer_to(cx, place) }
    }
);

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn gethostbyname2_r(
        name: *const c_char,
        family: c_int,
        entry: *mut hostent,
        buf: *mut c_char,
        len: size_t,
        out: *mut *mut hostent,
        h_errno: *mut c_int,
    ) -> c_int {
        let place = (entry, buf, len, out, h_errno);
        // SAFETY: the caller's string and places.
        unsafe { HostQuery::NameIn(owned(name), family).answer_to(cx, place) }
    }
);

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn gethostbyaddr_r(
        addr: *const c_void,
        addr_len: socklen_t,
        family: c_int,
        entry: *mut hostent,
        buf: *mut c_char,
        len: size_t,
        out: *mut *mut hostent,
        h_errno: *mut c_int,
    ) -> c_int {
        let place = (entry, buf, len, out, h_errno);
        // SAFETY: the caller's address and places.
        unsafe {
            HostQuery::Address(bytes(addr.cast(), addr_len as usize), family).answer_to(cx, place)
        }
    }
);
