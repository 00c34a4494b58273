//! The rows of the hooks' table about databases that libc looks into (users, groups,
//! passwords, services, protocols), and about questions to name servers.

use std::ffi::{c_char, c_int};

use crate::hook_common::{in_coroutines, parks, same};
use crate::names::text;

unsafe extern "C" {
    fn getprotobyname_r(
        name: *const c_char,
        entry: *mut libc::protoent,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::protoent,
    ) -> c_int;
    fn getprotobynumber_r(
        number: c_int,
        entry: *mut libc::protoent,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::protoent,
    ) -> c_int;
    fn getprotoent_r(
        entry: *mut libc::protoent,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::protoent,
    ) -> c_int;
    fn getprotoent() -> *mut libc::protoent;
    fn setprotoent(stay: c_int);
    fn getservbyname_r(
        name: *const c_char,
        protocol: *const c_char,
        entry: *mut libc::servent,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::servent,
    ) -> c_int;
    fn getservbyport_r(
        port: c_int,
        protocol: *const c_char,
        entry: *mut libc::servent,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::servent,
    ) -> c_int;
    fn getservent_r(
        entry: *mut libc::servent,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::servent,
    ) -> c_int;
    fn getspent_r(
        entry: *mut libc::spwd,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::spwd,
    ) -> c_int;
    fn getpwent_r(
        entry: *mut libc::passwd,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::passwd,
    ) -> c_int;
    fn getgrent_r(
        entry: *mut libc::group,
        buf: *mut c_char,
        len: usize,
        out: *mut *mut libc::group,
    ) -> c_int;
    fn innetgr(
        group: *const c_char,
        host: *const c_char,
        user: *const c_char,
        domain: *const c_char,
    ) -> c_int;
}

/// # Safety
///
/// - `entry` is null or a service.
unsafe fn service(entry: *mut libc::servent) -> Option<(String, String, c_int)> {
    // SAFETY: the caller's promise.
    unsafe {
        let entry = entry.as_ref()?;
        Some((text(entry.s_name), text(entry.s_proto), entry.s_port))
    }
}

/// # Safety
///
/// - `entry` is null or a protocol.
unsafe fn protocol(entry: *mut libc::protoent) -> Option<(String, String, c_int)> {
    // SAFETY: the caller's promise; the list ends with a null.
    unsafe {
        let entry = entry.as_ref()?;
        Some((text(entry.p_name), text(*entry.p_aliases), entry.p_proto))
    }
}

#[test]
fn services_and_protocols() {
    same(|_| {
        let (mut services, mut protocols) = (Vec::new(), Vec::new());
        let (tcp, none) = (c"tcp".as_ptr(), std::ptr::null());
        // SAFETY: strings and places that live across the calls.
        unsafe {
            for name in [c"http", c"no-such-service"] {
                services.push(service(libc::getservbyname(name.as_ptr(), tcp)));
                services.push(service(libc::getservbyname(name.as_ptr(), none)));
            }
            services.push(service(libc::getservbyport(443_i32.to_be() >> 16, tcp)));
            for name in [c"tcp", c"no-such-protocol"] {
                protocols.push(protocol(libc::getprotobyname(name.as_ptr())));
            }
            protocols.push(protocol(libc::getprotobynumber(17)));
            for len in [8, 2000] {
                let mut buf = vec![0 as c_char; len];
                let place = buf.as_mut_ptr();
                let (mut one, mut two) = (std::mem::zeroed(), std::mem::zeroed());
                let (mut s, mut p) = (std::ptr::null_mut(), std::ptr::null_mut());
                let code = getservbyname_r(c"http".as_ptr(), tcp, &mut one, place, len, &mut s);
                services.push(service(s).or(Some((String::new(), String::new(), code))));
                let port = (80_u16).to_be().into();
                let code = getservbyport_r(port, none, &mut one, place, len, &mut s);
                services.push(service(s).or(Some((String::new(), String::new(), code))));
                let code = getprotobyname_r(c"udp".as_ptr(), &mut two, place, len, &mut p);
                protocols.push(protocol(p).or(Some((String::new(), String::new(), code))));
                let code = getprotobynumber_r(6, &mut two, place, len, &mut p);
                protocols.push(protocol(p).or(Some((String::new(), String::new(), code))));
            }
        }
        (services, protocols)
    });
}

/// One after the other, of the whole process: so in a child.
#[test]
fn whole_databases() {
    if std::env::var("CRORE_DATABASES_CHILD").is_err() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "databases::whole_databases"])
            .env("CRORE_DATABASES_CHILD", "1")
            .status();
        assert!(child.unwrap().success());
        return;
    }
    same(|_| {
        let mut out = Vec::new();
        let mut buf = vec![0 as c_char; 4000];
        let (place, len) = (buf.as_mut_ptr(), 4000);
        // SAFETY: places that live across the calls.
        unsafe {
            libc::setpwent();
            while let Some(user) = libc::getpwent().as_ref() {
                out.push(text(user.pw_name) + &text(user.pw_shell));
            }
            libc::setpwent();
            let (mut entry, mut found) = (std::mem::zeroed(), std::ptr::null_mut());
            while getpwent_r(&mut entry, place, len, &mut found) == 0 {
                out.push(text(entry.pw_name) + &text(entry.pw_dir));
            }
            libc::endpwent();
            libc::setgrent();
            while let Some(group) = libc::getgrent().as_ref() {
                out.push(text(group.gr_name) + &text(*group.gr_mem));
            }
            libc::setgrent();
            let (mut entry, mut found) = (std::mem::zeroed(), std::ptr::null_mut());
            while getgrent_r(&mut entry, place, len, &mut found) == 0 {
                out.push(text(entry.gr_name));
            }
            libc::setspent();
            while let Some(one) = libc::getspent().as_ref() {
                out.push(text(one.sp_namp));
            }
            libc::setspent();
            let (mut entry, mut found) = (std::mem::zeroed(), std::ptr::null_mut());
            while getspent_r(&mut entry, place, len, &mut found) == 0 {
                out.push(text(entry.sp_pwdp));
            }
            let root = libc::getspnam(c"root".as_ptr()).as_ref();
            out.extend(root.map(|root| text(root.sp_namp)));
            let code = libc::getspnam_r(c"none".as_ptr(), &mut entry, place, len, &mut found);
            out.push(code.to_string());
            libc::setservent(0);
            while let Some(one) = service(libc::getservent()) {
                out.push(format!("{one:?}"));
            }
            libc::setservent(0);
            let (mut entry, mut found) = (std::mem::zeroed(), std::ptr::null_mut());
            while getservent_r(&mut entry, place, len, &mut found) == 0 {
                out.extend(service(found).map(|one| one.0));
            }
            setprotoent(0);
            while let Some(one) = protocol(getprotoent()) {
                out.push(format!("{one:?}"));
            }
            setprotoent(0);
            let (mut entry, mut found) = (std::mem::zeroed(), std::ptr::null_mut());
            while getprotoent_r(&mut entry, place, len, &mut found) == 0 {
                out.extend(protocol(found).map(|one| one.0));
            }
        }
        out
    });
}

#[test]
fn groups_of_a_user() {
    same(|_| {
        let mut out = Vec::new();
        // SAFETY: strings and places that live across the calls.
        unsafe {
            for (user, room) in [(c"root", 10), (c"root", 0), (c"no-such-user", 10)] {
                let (mut groups, mut count) = ([77; 10], room);
                let answer =
                    libc::getgrouplist(user.as_ptr(), 4242, groups.as_mut_ptr(), &mut count);
                out.push((answer, count, groups.to_vec()));
            }
            let none = std::ptr::null();
            let in_group = innetgr(c"no-such-group".as_ptr(), none, c"root".as_ptr(), none);
            out.push((in_group, 0, Vec::new()));
        }
        out
    });
}

/// The process's groups change: in a child.
#[test]
fn groups_that_a_process_takes() {
    if std::env::var("CRORE_GROUPS_CHILD").is_err() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "databases::groups_that_a_process_takes"])
            .env("CRORE_GROUPS_CHILD", "1")
            .status();
        assert!(child.unwrap().success());
        return;
    }
    same(|_| {
        let mut groups = [0; 64];
        // SAFETY: a string and places that live across the calls.
        unsafe {
            let answer = libc::initgroups(c"root".as_ptr(), 4242);
            let count = libc::getgroups(64, groups.as_mut_ptr());
            // Who may not is told so.
            (
                answer,
                (answer == 0).then(|| groups[..count as usize].to_vec()),
            )
        }
    });
}

mod questions {
    use std::ffi::CString;

    use super::*;

    unsafe extern "C" {
        fn __h_errno_location() -> *mut c_int;
    }

    type Ask = unsafe extern "C" fn(*const c_char, c_int, c_int, *mut u8, c_int) -> c_int;
    type AskIn =
        unsafe extern "C" fn(*const c_char, *const c_char, c_int, c_int, *mut u8, c_int) -> c_int;
    type Send = unsafe extern "C" fn(*const u8, c_int, *mut u8, c_int) -> c_int;

    unsafe extern "C" {
        fn res_query(n: *const c_char, c: c_int, k: c_int, a: *mut u8, l: c_int) -> c_int;
        fn __res_query(n: *const c_char, c: c_int, k: c_int, a: *mut u8, l: c_int) -> c_int;
        fn res_search(n: *const c_char, c: c_int, k: c_int, a: *mut u8, l: c_int) -> c_int;
        fn __res_search(n: *const c_char, c: c_int, k: c_int, a: *mut u8, l: c_int) -> c_int;
        fn res_querydomain(
            n: *const c_char,
            d: *const c_char,
            c: c_int,
            k: c_int,
            a: *mut u8,
            l: c_int,
        ) -> c_int;
        fn __res_querydomain(
            n: *const c_char,
            d: *const c_char,
            c: c_int,
            k: c_int,
            a: *mut u8,
            l: c_int,
        ) -> c_int;
        fn res_send(m: *const u8, l: c_int, a: *mut u8, r: c_int) -> c_int;
        fn __res_send(m: *const u8, l: c_int, a: *mut u8, r: c_int) -> c_int;
    }

    /// Names that can't be asked for, and a message that is none, whatever name servers
    /// there are.
    #[test]
    fn refused_as_on_a_thread() {
        same(|_| {
            let mut out = Vec::new();
            let long = CString::new(vec![b'x'; 300]).unwrap();
            let mut place = [0_u8; 512];
            let answer = place.as_mut_ptr();
            let asks: [Ask; 4] = [res_query, __res_query, res_search, __res_search];
            let in_domain: [AskIn; 2] = [res_querydomain, __res_querydomain];
            let sends: [Send; 2] = [res_send, __res_send];
            // SAFETY: strings and places that live across the calls.
            unsafe {
                for ask in asks {
                    let said = ask(long.as_ptr(), 1, 1, answer, 512);
                    out.push((said, *__h_errno_location()));
                }
                for ask in in_domain {
                    let domain = c"invalid".as_ptr();
                    let said = ask(long.as_ptr(), domain, 1, 1, answer, 512);
                    out.push((said, *__h_errno_location()));
                }
                for send in sends {
                    out.push((send(answer, 3, answer, 1), 0));
                }
            }
            out
        });
    }
}

/// The worker goes on meanwhile: each call parks its coroutine.
#[test]
fn helpers_make_the_look_ups() {
    in_coroutines(|_| {
        let (root, tcp) = (c"root".as_ptr(), c"tcp".as_ptr());
        let mut count = 0;
        let mut look_up = |call: &mut dyn FnMut()| {
            assert!(parks(call), "look-up {count}");
            count += 1;
        };
        // SAFETY: strings and places that live across the calls.
        unsafe {
            look_up(&mut || {
                libc::getservbyname(tcp, tcp);
            });
            look_up(&mut || {
                libc::getprotobynumber(6);
            });
            look_up(&mut || {
                libc::getspnam(root);
            });
            let (mut groups, mut room) = ([0; 10], 10);
            look_up(&mut || {
                libc::getgrouplist(root, 0, groups.as_mut_ptr(), &mut room);
            });
            look_up(&mut || {
                innetgr(root, root, root, root);
            });
        }
    });
}
