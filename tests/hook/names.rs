//! The rows of the hooks' table about names: hosts, addresses, users, groups.
#![cfg(all(feature = "hook", not(target_feature = "crt-static")))]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::ToSocketAddrs;

use crate::common::{set_limit, succeeds};
use crate::hook_common::{in_coroutines, same};

unsafe extern "C" {
    fn gethostbyname(name: *const c_char) -> *mut libc::hostent;
    fn gethostbyname2(name: *const c_char, family: c_int) -> *mut libc::hostent;
    fn gethostbyaddr(addr: *const c_void, len: u32, family: c_int) -> *mut libc::hostent;
    fn gethostbyname_r(
        name: *const c_char,
        entry: *mut libc::hostent,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::hostent,
        code: *mut c_int,
    ) -> c_int;
    fn gethostbyname2_r(
        name: *const c_char,
        family: c_int,
        entry: *mut libc::hostent,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::hostent,
        code: *mut c_int,
    ) -> c_int;
    fn gethostbyaddr_r(
        addr: *const c_void,
        addr_len: u32,
        family: c_int,
        entry: *mut libc::hostent,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::hostent,
        code: *mut c_int,
    ) -> c_int;
    fn __h_errno_location() -> *mut c_int;
}

#[test]
fn hosts_by_std() {
    same(|_| {
        [
            "localhost:80",
            "127.0.0.1:7",
            "[::1]:9",
            "no.such.host.invalid:1",
            ":::::",
        ]
        .map(|name| {
            name.to_socket_addrs()
                .map(|all| {
                    let mut all: Vec<_> = all.collect();
                    all.sort();
                    all
                })
                .map_err(|error| error.to_string())
        })
    });
}

#[test]
fn a_thousand_look_ups() {
    in_coroutines(|_| {
        let all: Vec<_> = (0..1000)
            .map(|_| crore::spawn(|| ("localhost", 80).to_socket_addrs().unwrap().count()))
            .collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() > 0));
        // Far fewer than look-ups, with those of the tests beside this one.
        assert!(crore::blocking::threads() < 500);
    });
}

#[test]
fn services_flags_and_names() {
    same(|_| {
        let mut out = Vec::new();
        // SAFETY: strings, hints and places that live across the calls; lists
        // are freed.
        unsafe {
            for (node, service, flags) in [
                (c"127.0.0.1", c"80", libc::AI_NUMERICHOST),
                (c"localhost", c"80", libc::AI_NUMERICHOST),
                (c"127.0.0.1", c"no-such-service", 0),
                (c"127.0.0.1", c"80", 1 << 30),
            ] {
                let mut hints: libc::addrinfo = std::mem::zeroed();
                hints.ai_flags = flags;
                hints.ai_socktype = libc::SOCK_STREAM;
                let mut list = std::ptr::null_mut();
                let code = libc::getaddrinfo(node.as_ptr(), service.as_ptr(), &hints, &mut list);
                let kind = if code == 0 { (*list).ai_socktype } else { -1 };
                if code == 0 {
                    libc::freeaddrinfo(list);
                }
                out.push((code, kind, String::new()));
            }
            let mut addr: libc::sockaddr_in = std::mem::zeroed();
            addr.sin_family = libc::AF_INET as u16;
            addr.sin_port = 80u16.to_be();
            addr.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
            for (len, room, flags) in [
                (16, 100, libc::NI_NUMERICHOST | libc::NI_NUMERICSERV),
                (16, 100, 0),
                (16, 3, libc::NI_NUMERICHOST),
                (3, 100, 0),
            ] {
                let (mut host, mut service) = ([0 as c_char; 100], [0 as c_char; 100]);
                let code = libc::getnameinfo(
                    (&raw const addr).cast(),
                    len,
                    host.as_mut_ptr(),
                    room,
                    service.as_mut_ptr(),
                    100,
                    flags,
                );
                let text = match code {
                    0 => text(host.as_ptr()) + &text(service.as_ptr()),
                    _ => String::new(),
                };
                out.push((code, 0, text));
            }
        }
        out
    });
}

/// # Safety
///
/// - `from` is null or a C string.
pub(crate) unsafe fn text(from: *const c_char) -> String {
    if from.is_null() {
        return "(null)".into();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(from) }
        .to_string_lossy()
        .into_owned()
}

/// All that an entry leads to.
///
/// # Safety
///
/// - `entry` is null or a host entry.
unsafe fn host(entry: *mut libc::hostent) -> Option<(String, Vec<String>, c_int, Vec<Vec<u8>>)> {
    // SAFETY: the caller's promise; the lists end with a null.
    unsafe {
        let entry = entry.as_ref()?;
        let (mut aliases, mut addrs) = (Vec::new(), Vec::new());
        let mut at = entry.h_aliases;
        while !(*at).is_null() {
            aliases.push(text(*at));
            at = at.add(1);
        }
        let mut at = entry.h_addr_list;
        while !(*at).is_null() {
            addrs.push(std::slice::from_raw_parts((*at).cast(), entry.h_length as usize).to_vec());
            at = at.add(1);
        }
        Some((text(entry.h_name), aliases, entry.h_addrtype, addrs))
    }
}

#[test]
fn hosts_the_old_way() {
    same(|_| {
        let mut out = Vec::new();
        // SAFETY: strings and places that live across the calls.
        unsafe {
            for name in [c"localhost", c"127.0.0.1", c"no.such.host.invalid"] {
                let found = host(gethostbyname(name.as_ptr()));
                // After a success it may be anything.
                let code = if found.is_none() {
                    *__h_errno_location()
                } else {
                    0
                };
                out.push((0, found, code));
                for len in [10, 2000] {
                    let mut entry: libc::hostent = std::mem::zeroed();
                    let mut buf = vec![0 as c_char; len];
                    let (mut result, mut code) = (std::ptr::null_mut(), 0);
                    let answer = gethostbyname_r(
                        name.as_ptr(),
                        &mut entry,
                        buf.as_mut_ptr(),
                        len,
                        &mut result,
                        &mut code,
                    );
                    out.push((answer, host(result), code));
                }
            }
            let local = [127u8, 0, 0, 1];
            let found = gethostbyaddr(local.as_ptr().cast(), 4, libc::AF_INET);
            out.push((0, host(found), 0));
        }
        out
    });
}

#[test]
fn hosts_of_a_family() {
    same(|_| {
        let mut out = Vec::new();
        // SAFETY: strings and places that live across the calls.
        unsafe {
            for family in [libc::AF_INET, libc::AF_INET6] {
                let found = gethostbyname2(c"localhost".as_ptr(), family);
                out.push((0, host(found)));
                for len in [10, 2000] {
                    let mut entry: libc::hostent = std::mem::zeroed();
                    let mut buf = vec![0 as c_char; len];
                    let place = buf.as_mut_ptr();
                    let (mut result, mut code) = (std::ptr::null_mut(), 0);
                    let name = c"localhost".as_ptr();
                    let answer = gethostbyname2_r(
                        name,
                        family,
                        &mut entry,
                        place,
                        len,
                        &mut result,
                        &mut code,
                    );
                    out.push((answer, host(result)));
                    let local = [127u8, 0, 0, 1];
                    let answer = gethostbyaddr_r(
                        local.as_ptr().cast(),
                        4,
                        libc::AF_INET,
                        &mut entry,
                        place,
                        len,
                        &mut result,
                        &mut code,
                    );
                    out.push((answer, host(result)));
                }
            }
        }
        out
    });
}

#[test]
fn users_and_groups() {
    same(|_| {
        let mut out = Vec::new();
        // SAFETY: strings and places that live across the calls.
        unsafe {
            for len in [8, 4000] {
                let mut buf = vec![0 as c_char; len];
                let mut user: libc::passwd = std::mem::zeroed();
                let mut group: libc::group = std::mem::zeroed();
                let (mut u, mut g) = (std::ptr::null_mut(), std::ptr::null_mut());
                for name in [c"root", c"no-such-user"] {
                    let (name, place) = (name.as_ptr(), buf.as_mut_ptr());
                    let code = libc::getpwnam_r(name, &mut user, place, len, &mut u);
                    let line = u
                        .as_ref()
                        .map(|u| text(u.pw_name) + &text(u.pw_dir) + &text(u.pw_shell));
                    out.push((code, line));
                    let code = libc::getgrnam_r(name, &mut group, place, len, &mut g);
                    let line = g.as_ref().map(|g| text(g.gr_name) + &text(*g.gr_mem));
                    out.push((code, line));
                }
                let place = buf.as_mut_ptr();
                let code = libc::getpwuid_r(0, &mut user, place, len, &mut u);
                out.push((code, u.as_ref().map(|u| text(u.pw_name))));
                let code = libc::getgrgid_r(0, &mut group, place, len, &mut g);
                out.push((code, g.as_ref().map(|g| text(g.gr_name))));
            }
            for name in [c"root", c"no-such-user"] {
                let user = libc::getpwnam(name.as_ptr()).as_ref();
                let group = libc::getgrnam(name.as_ptr()).as_ref();
                // One does not overwrite the other.
                let user = user.map(|u| text(u.pw_name) + &text(u.pw_dir) + &text(u.pw_shell));
                out.push((0, user));
                out.push((0, group.map(|g| text(g.gr_name) + &text(*g.gr_mem))));
            }
            for id in [0, 4_000_000] {
                out.push((0, libc::getpwuid(id).as_ref().map(|u| text(u.pw_name))));
                out.push((0, libc::getgrgid(id).as_ref().map(|g| text(g.gr_name))));
            }
        }
        out
    });
}

#[test]
fn a_database_that_cannot_be_read_is_an_error() {
    succeeds("a_database_that_cannot_be_read_is_an_error", || {
        same(|_| {
            // SAFETY: strings that live.
            unsafe {
                // What it takes is loaded.
                assert!(!libc::getpwnam(c"root".as_ptr()).is_null());
                let before = set_limit(libc::RLIMIT_NOFILE, 0);
                *libc::__errno_location() = 0;
                let user = libc::getpwnam(c"root".as_ptr());
                let said = (user.is_null(), *libc::__errno_location());
                set_limit(libc::RLIMIT_NOFILE, before);
                said
            }
        });
    });
}

/// libc's `struct gaicb`.
#[repr(C)]
struct Later {
    name: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    result: *mut libc::addrinfo,
    private: [c_int; 6],
}

// In libc since glibc 2.34.
#[link(name = "anl")]
unsafe extern "C" {
    fn getaddrinfo_a(
        mode: c_int,
        list: *mut *mut Later,
        count: c_int,
        event: *mut libc::sigevent,
    ) -> c_int;
    fn gai_suspend(list: *const *mut Later, count: c_int, time: *const libc::timespec) -> c_int;
    fn gai_error(one: *mut Later) -> c_int;
}

#[test]
fn look_ups_that_libc_makes_later() {
    const WAIT: c_int = 0;
    const NO_WAIT: c_int = 1;
    same(|_| {
        let mut out = Vec::new();
        // SAFETY: look-ups and a list that live until they are done.
        unsafe {
            for mode in [WAIT, NO_WAIT] {
                let mut one: Later = std::mem::zeroed();
                one.name = c"localhost".as_ptr();
                let mut list = [&raw mut one];
                out.push(getaddrinfo_a(
                    mode,
                    list.as_mut_ptr(),
                    1,
                    std::ptr::null_mut(),
                ));
                let ended = gai_suspend(list.as_ptr(), 1, std::ptr::null());
                // It may have been done before.
                let all_done = -103;
                out.push(c_int::from(ended == 0 || ended == all_done));
                out.push(gai_error(&mut one));
                assert!(!one.result.is_null());
                libc::freeaddrinfo(one.result);
            }
            out.push(getaddrinfo_a(
                7,
                std::ptr::null_mut(),
                0,
                std::ptr::null_mut(),
            ));
            out.push(gai_suspend(std::ptr::null(), 0, std::ptr::null()));
        }
        out
    });
}
