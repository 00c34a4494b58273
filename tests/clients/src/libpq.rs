//! The C shim over libpq, callable.

use std::ffi::{CStr, CString, c_char, c_int};
use std::net::SocketAddr;
use std::ptr;

unsafe extern "C" {
    fn crore_clients_query(
        conninfo: *const c_char,
        query: *const c_char,
        parameter: *const c_char,
        out: *mut c_char,
        room: usize,
    ) -> c_int;
}

/// Connects, runs `query` with the parameter `$1` if there is one, and returns
/// the first field of the first row, or nothing if there is no row.
///
/// # Errors
///
/// What libpq says.
///
/// # Panics
///
/// If a word has a zero byte.
pub fn query(server: SocketAddr, query: &str, parameter: Option<&str>) -> Result<String, String> {
    let conninfo = format!(
        "host={} port={} user=postgres dbname=postgres",
        server.ip(),
        server.port()
    );
    let text = |s: &str| CString::new(s).expect("no zero bytes");
    let [conninfo, query] = [&conninfo, query].map(text);
    let parameter = parameter.map(text);
    let mut out: [c_char; 256] = [0; 256];
    // SAFETY: terminated strings or null, and `out` with its true length; all live
    // across the call.
    let failed = unsafe {
        crore_clients_query(
            conninfo.as_ptr(),
            query.as_ptr(),
            parameter.as_ref().map_or(ptr::null(), |it| it.as_ptr()),
            out.as_mut_ptr(),
            out.len(),
        )
    };
    // SAFETY: the shim zeroes `out` and never writes its last byte.
    let out = unsafe { CStr::from_ptr(out.as_ptr()) };
    let out = out.to_string_lossy().into_owned();
    if failed == 0 { Ok(out) } else { Err(out) }
}
