//! HTTP by crates that hand work to threads of their own and wait for it as a
//! thread waits: `reqwest::blocking`, and `tiny_http` with its `recv`. The
//! servers run in coroutines of the same threads.

use std::sync::Arc;
use std::time::Duration;

use crore_clients::{MOMENT, SlowHttp, each, like_threads, overlapped, spread_crowd};
use reqwest::blocking::Client;

const CROWD: usize = 300;

/// More than any test takes.
const PATIENCE: Duration = Duration::from_secs(600);

fn client(patience: Duration) -> Client {
    Client::builder().timeout(patience).build().unwrap()
}

fn get(client: &Client, url: String) -> reqwest::Result<String> {
    client.get(url).send()?.text()
}

/// Nobody is answered before all have asked, so none may stop the thread.
fn one_client_serves_a_crowd(workers: usize) {
    like_threads(workers, || {
        let server = SlowHttp::start(CROWD);
        let (together, delay) = (server.url("together"), server.url("delay/100"));
        // Made where it is used: in a coroutine that is like a thread.
        let shared = crore::spawn(|| client(PATIENCE)).join().unwrap();
        let cloned = shared.clone();
        let (words, _) = spread_crowd(CROWD, move |i| {
            get(&cloned, format!("{together}/{i}")).unwrap()
        });
        each(&words, |i| i.to_string());
        let (words, took) = spread_crowd(CROWD, move |i| {
            get(&shared, format!("{delay}/{i}")).unwrap()
        });
        each(&words, |i| i.to_string());
        let what = format!("reqwest::blocking, {workers} workers");
        overlapped(&what, CROWD, took);
    });
}

#[test]
fn one_reqwest_client_serves_a_crowd_on_one_thread() {
    one_client_serves_a_crowd(1);
}

#[test]
fn one_reqwest_client_serves_a_crowd_on_several() {
    one_client_serves_a_crowd(3);
}

/// Each starts a thread, and joins it in the end.
#[test]
fn a_reqwest_client_for_each() {
    const CLIENTS: usize = 50;
    like_threads(1, || {
        let server = SlowHttp::start(CLIENTS);
        let (together, echo) = (server.url("together"), server.url("echo"));
        let (words, _) = spread_crowd(CLIENTS, move |i| {
            let own = client(PATIENCE);
            let word = get(&own, format!("{together}/{i}")).unwrap();
            // Past the socket's buffers.
            let sent = format!("{i} ").repeat(200_000);
            let answer = own.post(&echo).body(sent.clone()).send().unwrap();
            assert!(answer.text().unwrap() == sent);
            word
        });
        each(&words, |i| i.to_string());
    });
}

#[test]
fn timeouts_of_reqwest_hold() {
    const CROWD: usize = 100;
    like_threads(1, || {
        let server = SlowHttp::start(0);
        let base = server.url("delay");
        let (errors, took) = spread_crowd(CROWD, move |i| {
            let in_time = get(&client(PATIENCE), format!("{base}/1/{i}")).unwrap();
            assert_eq!(in_time, i.to_string());
            let late = get(&client(MOMENT), format!("{base}/60000/{i}"));
            late.unwrap_err().is_timeout()
        });
        each(&errors, |_| true);
        overlapped("reqwest::blocking timeout", CROWD, took);
    });
}

/// `Server::recv` waits on a condition variable for what `tiny_http`'s own
/// threads have read; some coroutines at one time do.
#[test]
fn tiny_http_hands_requests_to_coroutines_that_wait() {
    const HANDLERS: usize = 20;
    like_threads(1, || {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
        let address = server.server_addr().to_ip().unwrap();
        let serve = |_| {
            let server = Arc::clone(&server);
            crore::spawn(move || {
                let mut served = 0;
                // Unblocked in the end, it says so by an error.
                while let Ok(mut request) = server.recv() {
                    let mut body = String::new();
                    request.as_reader().read_to_string(&mut body).unwrap();
                    std::thread::sleep(Duration::from_millis(10));
                    let answer = format!("{} {body}", request.url());
                    let answer = tiny_http::Response::from_string(answer);
                    request.respond(answer).unwrap();
                    served += 1;
                }
                served
            })
        };
        let handlers: Vec<_> = (0..HANDLERS).map(serve).collect();
        let (words, _) = spread_crowd(CROWD, move |i| {
            let url = format!("http://{address}/{i}");
            let mut answer = ureq::agent().post(&url).send(format!("body {i}")).unwrap();
            answer.body_mut().read_to_string().unwrap()
        });
        each(&words, |i| format!("/{i} body {i}"));
        for _ in 0..HANDLERS {
            server.unblock();
        }
        let served = handlers.into_iter().map(|it| it.join().unwrap());
        assert_eq!(served.sum::<usize>(), CROWD);
    });
}
