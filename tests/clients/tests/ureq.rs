//! The crate `ureq`, against a server of plain `std::net` code in coroutines
//! and against the crate `tiny_http`.
//!
//! With `tiny_http` it matters what runs where. Its server starts threads of
//! its own, plain ones: one that accepts, and one for each connection, which
//! reads the requests. Here in coroutines, all on one thread: the clients, the
//! loop that takes the requests, and a handler for each that waits and writes
//! the answer. `Server::recv` waits on a condition variable; the loop asks
//! `try_recv` instead, so that it holds with or without hooks for those.

use std::rc::Rc;
use std::time::Duration;

use crore_clients::{MOMENT, SlowHttp, crowd, each, on_one_thread, overlapped};

fn get(agent: &ureq::Agent, url: &str) -> Result<String, ureq::Error> {
    agent.get(url).call()?.body_mut().read_to_string()
}

/// An agent that waits this long for an answer to begin.
fn agent_of(patience: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_recv_response(Some(patience));
    config.build().into()
}

#[test]
fn a_thousand_wait_at_one_time() {
    const CROWD: usize = 1000;
    on_one_thread(|| {
        let server = SlowHttp::start(CROWD);
        let base = server.url("together");
        let (words, _) = crowd(CROWD, move |i| {
            get(&ureq::agent(), &format!("{base}/{i}")).unwrap()
        });
        each(&words, |i| i.to_string());
    });
}

#[test]
fn a_thousand_waits_end_together() {
    const CROWD: usize = 1000;
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let base = server.url("delay/100");
        let (words, took) = crowd(CROWD, move |i| {
            get(&ureq::agent(), &format!("{base}/{i}")).unwrap()
        });
        each(&words, |i| i.to_string());
        overlapped("ureq", CROWD, took);
    });
}

#[test]
fn one_agent_serves_all_and_keeps_connections() {
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let (echo, delay) = (server.url("echo"), server.url("delay/1"));
        let agent = ureq::agent();
        let (sums, _) = crowd(200, move |i| {
            for round in 0..5 {
                let sent = format!("{i} {round} ").repeat(10_000);
                let mut answer = agent.post(&echo).send(&sent).unwrap();
                // Past the socket's buffers: both sides park half-way.
                assert_eq!(answer.body_mut().read_to_string().unwrap(), sent);
                assert_eq!(get(&agent, &format!("{delay}/{i}")).unwrap(), i.to_string());
            }
            i
        });
        each(&sums, |i| i);
    });
}

#[test]
fn timeouts_hold() {
    const CROWD: usize = 200;
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let base = server.url("delay");
        let (errors, took) = crowd(CROWD, move |i| {
            // All that runs here shares a thread: how late an answer may be
            // is a matter of load, so what must be in time has much time.
            let in_time = get(&agent_of(600 * MOMENT), &format!("{base}/1/{i}")).unwrap();
            assert_eq!(in_time, i.to_string());
            let agent = agent_of(MOMENT);
            matches!(
                get(&agent, &format!("{base}/60000/{i}")),
                Err(ureq::Error::Timeout(ureq::Timeout::RecvResponse))
            )
        });
        each(&errors, |_| true);
        overlapped("ureq timeout_recv_response", CROWD, took);
    });
}

#[test]
fn a_timeout_for_all_looks_names_up_on_threads() {
    // With a limit for the whole call ureq starts a thread for each lookup
    // and waits for it by a channel.
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let base = server.url("delay").replace("127.0.0.1", "localhost");
        let (words, _) = crowd(100, move |i| {
            let config =
                ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60)));
            let agent = ureq::Agent::from(config.build());
            get(&agent, &format!("{base}/10/{i}")).unwrap()
        });
        each(&words, |i| i.to_string());
    });
}

#[test]
fn tiny_http_answers_from_coroutines() {
    const CROWD: usize = 300;
    on_one_thread(|| {
        let server = Rc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
        let address = server.server_addr().to_ip().unwrap();
        let loop_over = crore::spawn_local(move || {
            let mut answered = 0;
            let mut handlers = Vec::new();
            while answered < CROWD {
                // In a condition variable of std, which parks the coroutine.
                let mut request = server.recv().unwrap();
                answered += 1;
                handlers.push(crore::spawn_local(move || {
                    let mut body = String::new();
                    request.as_reader().read_to_string(&mut body).unwrap();
                    std::thread::sleep(MOMENT);
                    let answer = format!("{} {body}", request.url());
                    request
                        .respond(tiny_http::Response::from_string(answer))
                        .unwrap();
                }));
            }
            for handler in handlers {
                handler.join().unwrap();
            }
        });
        let (words, took) = crowd(CROWD, move |i| {
            let url = format!("http://{address}/{i}");
            let mut answer = ureq::agent().post(&url).send(format!("body {i}")).unwrap();
            answer.body_mut().read_to_string().unwrap()
        });
        each(&words, |i| format!("/{i} body {i}"));
        overlapped("ureq and tiny_http", CROWD, took);
        loop_over.join().unwrap();
    });
}
