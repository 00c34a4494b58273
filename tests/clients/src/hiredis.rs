//! The C shim over hiredis, callable.

use std::ffi::{CStr, CString, c_char, c_int};
use std::net::SocketAddr;
use std::time::Duration;

unsafe extern "C" {
    fn crore_clients_blpop(
        host: *const c_char,
        port: c_int,
        own: *const c_char,
        value: *const c_char,
        key: *const c_char,
        wait: *const c_char,
        give_up: c_int,
        out: *mut c_char,
        room: usize,
    ) -> c_int;
}

/// One conversation: connects, pushes and pops `value` through the list `own`,
/// then `BLPOP key wait`, with `give_up` as hiredis' own timeout. `None` is
/// Redis' nil.
///
/// # Errors
///
/// What hiredis says.
///
/// # Panics
///
/// If a word has a zero byte.
pub fn blpop(
    server: SocketAddr,
    (own, value): (&str, &str),
    (key, wait): (&str, &str),
    give_up: Option<Duration>,
) -> Result<Option<String>, String> {
    let text = |s: &str| CString::new(s).expect("no zero bytes");
    let [host, own, value, key, wait] = [&server.ip().to_string(), own, value, key, wait].map(text);
    let give_up = give_up.map_or(0, |it| it.as_millis().try_into().expect("milliseconds"));
    let mut out: [c_char; 256] = [0; 256];
    // SAFETY: terminated strings, and `out` with its true length; all live
    // across the call.
    let result = unsafe {
        crore_clients_blpop(
            host.as_ptr(),
            c_int::from(server.port()),
            own.as_ptr(),
            value.as_ptr(),
            key.as_ptr(),
            wait.as_ptr(),
            give_up,
            out.as_mut_ptr(),
            out.len(),
        )
    };
    // SAFETY: the shim zeroes `out` and never writes its last byte.
    let out = unsafe { CStr::from_ptr(out.as_ptr()) };
    let out = out.to_string_lossy().into_owned();
    match result {
        0 => Ok(None),
        1 => Ok(Some(out)),
        _ => Err(out),
    }
}
