//! Name look-ups: `getaddrinfo`, `getnameinfo`, `gethostby…`, and the users
//! and groups of `getpw…_r` and `getgr…_r`.
//!
//! libc makes them with sockets and files of its own, which no hook sees, so
//! they are helper threads' business. The job owns its questions and a buffer
//! for the answer ([`answer`]).
//!
//! A cancelled coroutine gets an error at once: `EAI_AGAIN` or `ECANCELED`.
//!
//! Left out of statically linked programs, where libc's own functions could
//! not be reached any more. The forms without `_r` for users and groups are in
//! `passwd.rs`.

pub(crate) mod answer;

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use libc::{addrinfo, gid_t, group, hostent, passwd, size_t, sockaddr, socklen_t, uid_t};

use self::answer::{Found, Latest, Room, find, keep};

use crate::blocking;
use crate::hook::libc::next;
use crate::hook::wait::retry::gate;
use crate::sched::Cx;
use crate::sys::syscall::{Errno, errno, set_errno};

unsafe extern "C" {
    fn __h_errno_location() -> *mut c_int;
}

/// `netdb.h`'s.
const TRY_AGAIN: c_int = 2;
const NETDB_INTERNAL: c_int = -1;

/// A string of the caller's, or the null that he gave.
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
    cx: Cx,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Errno> {
    let saved = errno();
    let done = blocking::run(cx, move || {
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

/// A list of addresses that nobody has taken yet.
struct List(*mut addrinfo);

// SAFETY: a plain heap structure of libc's, with one owner.
unsafe impl Send for List {}

impl Drop for List {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: libc's list, which nobody else has.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    out: *mut *mut addrinfo,
) -> c_int {
    let Some(cx) = gate() else {
        // SAFETY: the caller's arguments.
        return unsafe { next::getaddrinfo(node, service, hints, out) };
    };
    // SAFETY: the caller's strings and hints.
    let (node, service, hints) = unsafe {
        let hints = hints
            .as_ref()
            .map(|h| [h.ai_flags, h.ai_family, h.ai_socktype, h.ai_protocol]);
        (owned(node), owned(service), hints)
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
        let mut list = List(std::ptr::null_mut());
        // SAFETY: our own strings, hints and place.
        let code =
            unsafe { next::getaddrinfo(pointer(&node), pointer(&service), hints, &mut list.0) };
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

#[unsafe(no_mangle)]
unsafe extern "C" fn getnameinfo(
    addr: *const sockaddr,
    len: socklen_t,
    host: *mut c_char,
    host_len: socklen_t,
    service: *mut c_char,
    service_len: socklen_t,
    flags: c_int,
) -> c_int {
    let Some(cx) = gate() else {
        // SAFETY: the caller's arguments.
        return unsafe {
            next::getnameinfo(addr, len, host, host_len, service, service_len, flags)
        };
    };
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
            next::getnameinfo(addr, address.len() as socklen_t, h, h_len, s, s_len, flags)
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

/// # Safety
///
/// - `from` points at `len` bytes (or `len` is 0).
unsafe fn bytes(from: *const u8, len: usize) -> Vec<u8> {
    if len == 0 || from.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(from, len) }.to_vec()
}

macro_rules! by_id {
    ($($name:ident, $id:ty, $entry:ty;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(id: $id, entry: *mut $entry, buf: *mut c_char, len: size_t, out: *mut *mut $entry) -> c_int {
                let Some(cx) = gate() else {
                    // SAFETY: the caller's arguments.
                    return unsafe { next::$name(id, entry, buf, len, out) };
                };
                let room = Room::of(buf, len);
                // SAFETY: our own places.
                let found = look_up(cx, move || find(room, |(e, b, n, o, _)| unsafe { next::$name(id, e, b, n, o) }));
                match found {
                    // SAFETY: the caller's places.
                    Ok(found) => unsafe { found.give(entry, buf, len, out) },
                    Err(code) => code,
                }
            }
        )*
    };
}

by_id! {
    getpwuid_r, uid_t, passwd;
    getgrgid_r, gid_t, group;
}

macro_rules! by_name {
    ($($name:ident, $entry:ty;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(name: *const c_char, entry: *mut $entry, buf: *mut c_char, len: size_t, out: *mut *mut $entry) -> c_int {
                let Some(cx) = gate() else {
                    // SAFETY: the caller's arguments.
                    return unsafe { next::$name(name, entry, buf, len, out) };
                };
                // SAFETY: the caller's string.
                let name = unsafe { owned(name) };
                let room = Room::of(buf, len);
                // SAFETY: our own string and places.
                let found = look_up(cx, move || find(room, |(e, b, n, o, _)| unsafe { next::$name(pointer(&name), e, b, n, o) }));
                match found {
                    // SAFETY: the caller's places.
                    Ok(found) => unsafe { found.give(entry, buf, len, out) },
                    Err(code) => code,
                }
            }
        )*
    };
}

by_name! {
    getpwnam_r, passwd;
    getgrnam_r, group;
}

/// A question about a host.
#[derive(Clone)]
enum Host {
    Name(Option<CString>),
    NameIn(Option<CString>, c_int),
    Address(Vec<u8>, c_int),
}

impl Host {
    fn find(&self, room: Room) -> Found<hostent> {
        find(room, |(e, b, n, o, code)| {
            // SAFETY: our own question and places.
            unsafe {
                match self {
                    Self::Name(name) => next::gethostbyname_r(pointer(name), e, b, n, o, code),
                    Self::NameIn(name, family) => {
                        next::gethostbyname2_r(pointer(name), *family, e, b, n, o, code)
                    }
                    Self::Address(bytes, family) => {
                        let (addr, len) = (bytes.as_ptr().cast(), bytes.len() as socklen_t);
                        next::gethostbyaddr_r(addr, len, *family, e, b, n, o, code)
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
    unsafe fn ask(
        self,
        cx: Cx,
        entry: *mut hostent,
        (buf, len): (*mut c_char, size_t),
        out: *mut *mut hostent,
        h_errno: *mut c_int,
    ) -> c_int {
        let room = Room::of(buf, len);
        match look_up(cx, move || self.find(room)) {
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
    fn answer(self, cx: Cx) -> *mut hostent {
        thread_local! {
            static LATEST: Latest<hostent> = const { Latest::none() };
        }
        let found = look_up(cx, move || {
            let mut len = 1024;
            loop {
                let found = self.find(Room::aligned(len));
                if found.code != libc::ERANGE || len > 1 << 20 {
                    return found;
                }
                len *= 2;
            }
        });
        let (found, h_errno) = match found {
            Ok(found) => {
                let h_errno = found.h_errno;
                (Some(found), h_errno)
            }
            Err(_) => (None, NETDB_INTERNAL),
        };
        // SAFETY: libc's own thread-local.
        unsafe { __h_errno_location().write(h_errno) };
        let Some(found) = found else {
            return std::ptr::null_mut();
        };
        keep(&LATEST, found)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn gethostbyname(name: *const c_char) -> *mut hostent {
    // SAFETY: the caller's string.
    unsafe {
        match gate() {
            None => next::gethostbyname(name),
            Some(cx) => Host::Name(owned(name)).answer(cx),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
    // SAFETY: the caller's string.
    unsafe {
        match gate() {
            None => next::gethostbyname2(name, family),
            Some(cx) => Host::NameIn(owned(name), family).answer(cx),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn gethostbyaddr(
    addr: *const c_void,
    len: socklen_t,
    family: c_int,
) -> *mut hostent {
    // SAFETY: the caller's address.
    unsafe {
        match gate() {
            None => next::gethostbyaddr(addr, len, family),
            Some(cx) => Host::Address(bytes(addr.cast(), len as usize), family).answer(cx),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn gethostbyname_r(
    name: *const c_char,
    entry: *mut hostent,
    buf: *mut c_char,
    len: size_t,
    out: *mut *mut hostent,
    h_errno: *mut c_int,
) -> c_int {
    // SAFETY: the caller's string and places.
    unsafe {
        match gate() {
            None => next::gethostbyname_r(name, entry, buf, len, out, h_errno),
            Some(cx) => Host::Name(owned(name)).ask(cx, entry, (buf, len), out, h_errno),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    entry: *mut hostent,
    buf: *mut c_char,
    len: size_t,
    out: *mut *mut hostent,
    h_errno: *mut c_int,
) -> c_int {
    // SAFETY: the caller's string and places.
    unsafe {
        match gate() {
            None => next::gethostbyname2_r(name, family, entry, buf, len, out, h_errno),
            Some(cx) => Host::NameIn(owned(name), family).ask(cx, entry, (buf, len), out, h_errno),
        }
    }
}

#[unsafe(no_mangle)]
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
    // SAFETY: the caller's address and places.
    unsafe {
        match gate() {
            None => next::gethostbyaddr_r(addr, addr_len, family, entry, buf, len, out, h_errno),
            Some(cx) => Host::Address(bytes(addr.cast(), addr_len as usize), family).ask(
                cx,
                entry,
                (buf, len),
                out,
                h_errno,
            ),
        }
    }
}
