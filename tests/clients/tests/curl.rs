//! libcurl, the C library, through the crate `curl`.

use std::time::Duration;

use crore_clients::{MOMENT, SlowHttp, crowd, each, on_one_thread, overlapped};
use curl::easy::Easy;

const CROWD: usize = 1000;

/// Performs the request that `set` describes and returns the body.
fn perform(url: &str, set: impl FnOnce(&mut Easy)) -> Result<String, curl::Error> {
    let mut easy = Easy::new();
    easy.url(url)?;
    // Without it libcurl times lookups out by SIGALRM, which is process-wide.
    easy.signal(false)?;
    set(&mut easy);
    let mut body = Vec::new();
    let mut transfer = easy.transfer();
    transfer.write_function(|data| {
        body.extend_from_slice(data);
        Ok(data.len())
    })?;
    transfer.perform()?;
    drop(transfer);
    assert_eq!(easy.response_code()?, 200);
    Ok(String::from_utf8(body).unwrap())
}

#[test]
fn a_thousand_wait_at_one_time() {
    on_one_thread(|| {
        let server = SlowHttp::start(CROWD);
        let base = server.url("together");
        let (words, _) = crowd(CROWD, move |i| {
            perform(&format!("{base}/{i}"), |_| {}).unwrap()
        });
        each(&words, |i| i.to_string());
    });
}

#[test]
fn a_thousand_waits_end_together() {
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let base = server.url("delay/100");
        let (words, took) = crowd(CROWD, move |i| {
            perform(&format!("{base}/{i}"), |_| {}).unwrap()
        });
        each(&words, |i| i.to_string());
        overlapped("libcurl", CROWD, took);
    });
}

#[test]
fn large_bodies_go_both_ways() {
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let url = server.url("echo");
        let (right, _) = crowd(100, move |i| {
            let sent = format!("{i} ").repeat(100_000);
            let got = perform(&url, |easy| {
                easy.post(true).unwrap();
                easy.post_fields_copy(sent.as_bytes()).unwrap();
            });
            got.unwrap() == sent
        });
        each(&right, |_| true);
    });
}

#[test]
fn timeouts_hold() {
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let base = server.url("delay/60000");
        let (errors, took) = crowd(200, move |i| {
            let set = |easy: &mut Easy| easy.timeout(MOMENT).unwrap();
            perform(&format!("{base}/{i}"), set)
                .unwrap_err()
                .is_operation_timedout()
        });
        each(&errors, |_| true);
        overlapped("libcurl timeout", 200, took);
    });
}

#[test]
fn names_are_looked_up() {
    // libcurl does it on threads of its own, where it was built so.
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let base = server.url("delay/10").replace("127.0.0.1", "localhost");
        let (words, _) = crowd(100, move |i| {
            let set = |easy: &mut Easy| easy.timeout(Duration::from_secs(60)).unwrap();
            perform(&format!("{base}/{i}"), set).unwrap()
        });
        each(&words, |i| i.to_string());
    });
}
