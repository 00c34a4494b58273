//! The crate `memcache` against memcached, with the pool `r2d2` that it brings.
//!
//! `r2d2` starts three threads for each pool, plain ones, that open the
//! connections; the queries run in the coroutines.

use crore_clients::{Server, crowd, each, free_port, home, on_one_thread};

const CROWD: usize = 200;

fn memcached() -> Server {
    let port = free_port();
    let args = [
        "-l",
        "127.0.0.1",
        "-U",
        "0",
        "-c",
        "2000",
        "-b",
        "1024",
        "-p",
    ];
    let port_text = port.to_string();
    let args: Vec<&str> = args.into_iter().chain([port_text.as_str()]).collect();
    Server::start("memcached", "memcached", home(), port, &args)
}

#[test]
fn one_pool_with_a_connection_for_each() {
    let server = memcached();
    on_one_thread(|| {
        let url = format!("memcache://{}?timeout=60", server.address());
        let client = memcache::Client::with_pool_size(url, CROWD as u32).unwrap();
        client.set("total", 0, 0).unwrap();
        let (answers, _) = crowd(CROWD, move |i| {
            let key = format!("key {i}").replace(' ', "_");
            let large = format!("{i} ").repeat(50_000);
            for round in 0..3 {
                client.set(&key, format!("{round} {large}"), 60).unwrap();
                let got: Option<String> = client.get(&key).unwrap();
                assert_eq!(got, Some(format!("{round} {large}")));
            }
            client.increment("total", 1).unwrap()
        });
        // Each saw a total that nobody else saw.
        let mut totals = answers;
        totals.sort_unstable();
        each(&totals, |i| i as u64 + 1);
    });
}
