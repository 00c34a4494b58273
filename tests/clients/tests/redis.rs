//! The crate `redis` (blocking connections) against redis-server.

use std::net::SocketAddr;
use std::time::Duration;

use crore_clients::{
    crowd, each, on_one_thread, on_threads, overlapped, redis_server, spread_crowd,
};
use redis::{Commands, Connection, RedisResult};

const CROWD: usize = 1000;

fn connect(server: SocketAddr) -> Connection {
    let client = redis::Client::open(format!("redis://{server}/")).expect("a good address");
    client.get_connection().expect("a connection")
}

/// How many clients the server itself says to be waiting in a blocking command.
fn blocked(connection: &mut Connection) -> usize {
    let info: redis::InfoDict = redis::cmd("INFO").arg("clients").query(connection).unwrap();
    info.get("blocked_clients").expect("a number")
}

fn blpop(connection: &mut Connection, key: &str, seconds: f64) -> RedisResult<Option<String>> {
    let popped: Option<(String, String)> = connection.blpop(key, seconds)?;
    Ok(popped.map(|(from, value)| {
        assert_eq!(from, key);
        value
    }))
}

#[test]
fn a_thousand_wait_at_one_time() {
    let server = redis_server();
    on_one_thread(|| {
        let address = server.address();
        let helper = crore::spawn_local(move || {
            let mut connection = connect(address);
            while blocked(&mut connection) < CROWD {
                crore::sleep(Duration::from_millis(5));
            }
            for i in 0..CROWD {
                let _: usize = connection.rpush(format!("key {i}"), i).unwrap();
            }
        });
        // Nobody is answered before all wait: the helper sees to it.
        let (values, _) = crowd(CROWD, move |i| {
            blpop(&mut connect(address), &format!("key {i}"), 0.0).unwrap()
        });
        each(&values, |i| Some(i.to_string()));
        helper.join().unwrap();
    });
}

#[test]
fn a_thousand_waits_end_together() {
    let server = redis_server();
    on_one_thread(|| {
        let address = server.address();
        let (values, took) = crowd(CROWD, move |i| {
            let mut connection = connect(address);
            let nothing = blpop(&mut connection, "never", 0.1).unwrap();
            assert_eq!(nothing, None);
            // The connection is good for more.
            redis::cmd("ECHO")
                .arg(i)
                .query::<usize>(&mut connection)
                .unwrap()
        });
        each(&values, |i| i);
        overlapped("redis BLPOP", CROWD, took);
    });
}

#[test]
fn read_timeouts_hold() {
    let server = redis_server();
    on_one_thread(|| {
        let address = server.address();
        let (errors, took) = crowd(200, move |_| {
            let mut connection = connect(address);
            connection
                .set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            let error = blpop(&mut connection, "never", 0.0).unwrap_err();
            error.is_timeout()
        });
        each(&errors, |_| true);
        overlapped("redis set_read_timeout", 200, took);
    });
}

#[test]
fn every_subscriber_hears_every_message() {
    const SUBSCRIBERS: usize = 100;
    const MESSAGES: usize = 50;
    let server = redis_server();
    on_one_thread(|| {
        let address = server.address();
        let publisher = crore::spawn_local(move || {
            let mut connection = connect(address);
            loop {
                let (_, listening): (String, usize) = redis::cmd("PUBSUB")
                    .arg("NUMSUB")
                    .arg("news")
                    .query(&mut connection)
                    .unwrap();
                if listening == SUBSCRIBERS {
                    break;
                }
                crore::sleep(Duration::from_millis(5));
            }
            for i in 0..MESSAGES {
                let heard: usize = connection.publish("news", i).unwrap();
                assert_eq!(heard, SUBSCRIBERS);
            }
        });
        let (heard, _) = crowd(SUBSCRIBERS, move |_| {
            let mut connection = connect(address);
            let mut news = connection.as_pubsub();
            news.subscribe("news").unwrap();
            (0..MESSAGES)
                .map(|_| news.get_message().unwrap().get_payload::<usize>().unwrap())
                .collect::<Vec<_>>()
        });
        each(&heard, |_| (0..MESSAGES).collect());
        publisher.join().unwrap();
    });
}

#[test]
fn pipelines_and_transactions_answer_in_order() {
    let server = redis_server();
    on_one_thread(|| {
        let address = server.address();
        let (answers, _) = crowd(200, move |i| {
            let mut connection = connect(address);
            // Larger than a socket's buffers: the write parks half-way.
            let large = i.to_string().repeat(300_000);
            let key = format!("large {i}");
            let (got, total): (String, usize) = redis::pipe()
                .atomic()
                .set(&key, &large)
                .ignore()
                .get(&key)
                .del(&key)
                .ignore()
                .incr("total", 1)
                .query(&mut connection)
                .unwrap();
            assert!((1..=200).contains(&total));
            got == large
        });
        each(&answers, |_| true);
        assert_eq!(connect(address).get::<_, usize>("total").unwrap(), 200);
    });
}

#[test]
fn several_workers_share_a_crowd() {
    let server = redis_server();
    on_threads(3, || {
        let address = server.address();
        let (values, took) = spread_crowd(CROWD, move |i| {
            let mut connection = connect(address);
            let key = format!("own {i}");
            let () = connection.rpush(&key, i).unwrap();
            let mine = blpop(&mut connection, &key, 0.1).unwrap();
            let nothing = blpop(&mut connection, &key, 0.1).unwrap();
            (mine, nothing)
        });
        each(&values, |i| (Some(i.to_string()), None));
        overlapped("redis, three workers", CROWD, took);
    });
}
