//! hiredis, Redis' C client, through a shim that is plain C.

use std::time::Duration;

use crore_clients::hiredis::blpop;
use crore_clients::{crowd, each, on_one_thread, overlapped, overlapped_by, redis_server};

/// A limit for answers that those of two hundred at a time keep to.
const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn a_thousand_waits_end_together() {
    let server = redis_server();
    on_one_thread(|| {
        let address = server.address();
        let (answers, took) = crowd(1000, move |i| {
            let (own, value) = (format!("own {i}"), i.to_string());
            blpop(address, (&own, &value), ("never", "0.1"), None)
        });
        each(&answers, |_| Ok(None));
        overlapped("hiredis BLPOP", 1000, took);
    });
}

#[test]
fn each_waits_for_a_value_of_its_own() {
    const CROWD: usize = 500;
    let server = redis_server();
    on_one_thread(|| {
        let address = server.address();
        let pusher = crore::spawn_local(move || {
            let client = redis::Client::open(format!("redis://{address}/")).unwrap();
            let mut connection = client.get_connection().unwrap();
            // All of them wait before the first is answered.
            loop {
                let clients: redis::InfoDict = redis::cmd("INFO")
                    .arg("clients")
                    .query(&mut connection)
                    .unwrap();
                if clients.get("blocked_clients") == Some(CROWD) {
                    break;
                }
                crore::sleep(Duration::from_millis(5));
            }
            for i in 0..CROWD {
                let push = redis::cmd("RPUSH")
                    .arg(format!("for {i}"))
                    .arg(i * i)
                    .to_owned();
                push.exec(&mut connection).unwrap();
            }
        });
        let (answers, _) = crowd(CROWD, move |i| {
            let (own, value) = (format!("own {i}"), i.to_string());
            blpop(address, (&own, &value), (&format!("for {i}"), "0"), None)
        });
        each(&answers, |i| Ok(Some((i * i).to_string())));
        pusher.join().unwrap();
    });
}

#[test]
fn its_timeout_holds() {
    let server = redis_server();
    on_one_thread(|| {
        let address = server.address();
        let (answers, took) = crowd(200, move |i| {
            let (own, value) = (format!("own {i}"), i.to_string());
            blpop(address, (&own, &value), ("never", "0"), Some(PATIENCE))
        });
        each(&answers, |_| Err("Resource temporarily unavailable".into()));
        overlapped_by("hiredis redisSetTimeout", 200, PATIENCE, took);
    });
}
