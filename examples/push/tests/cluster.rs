//! Several nodes with one Redis: one service.

mod support;

use serde_json::{Value, json};
use support::cluster::{Cluster, Nats, Redis, await_health, until};
use support::proxy::Proxy;
use support::{Client, Node};

/// Nodes look so seldom for what they were not told that it does not help.
const BLIND: [&str; 2] = ["--presence_ms", "3000000"];

/// Three nodes.
fn cluster(redis: &Redis, settings: &[&str]) -> Cluster {
    Cluster::start(&[redis.url(), redis.url(), redis.url()], settings)
}

fn client(node: &Node, name: &str) -> Client {
    Client::connect(node.clients, name)
}

fn publish(client: &mut Client, data: u64, key: &str) -> Value {
    client.ask(json!({"type": "publish", "channel": "room", "data": data, "key": key}))
}

#[test]
fn what_is_published_at_one_node_comes_at_all_in_one_order() {
    let nats = Nats::start();
    for (stacks, fanout) in [
        ("own", "redis"),
        ("shared", "redis"),
        ("own", &nats.url()),
        ("shared", &nats.url()),
    ] {
        let redis = Redis::durable();
        let settings = ["--stacks", stacks, "--fanout", fanout, BLIND[0], BLIND[1]];
        let cluster = cluster(&redis, &settings);
        let mut readers: Vec<_> = cluster.nodes.iter().map(|one| client(one, "r")).collect();
        let mut epochs: Vec<_> = readers
            .iter_mut()
            .map(|one| one.subscribe("room")["epoch"].clone())
            .collect();
        epochs.dedup();
        assert_eq!(epochs.len(), 1);
        let nodes = cluster.addresses();
        let writers: Vec<_> = nodes
            .into_iter()
            .map(|node| {
                std::thread::spawn(move || {
                    let mut writer = Client::connect(node, "writer");
                    for n in 0..100 {
                        writer.publish("room", json!([node.to_string(), n]));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        let all: Vec<Vec<_>> = readers
            .iter_mut()
            .map(|reader| (0..300).map(|_| reader.message()).collect())
            .collect();
        for (n, message) in all[0].iter().enumerate() {
            assert_eq!(message["offset"], n as u64 + 1);
        }
        assert_eq!(all[0], all[1]);
        assert_eq!(all[0], all[2]);
    }
}

#[test]
fn a_client_comes_back_to_another_node_and_misses_nothing() {
    let redis = Redis::durable();
    let mut cluster = cluster(&redis, &["--history_messages", "10"]);
    let mut reader = client(&cluster.nodes[0], "reader");
    let mut writer = client(&cluster.nodes[1], "writer");
    let epoch = reader.subscribe("room")["epoch"].clone();
    writer.publish("room", 1);
    assert_eq!(reader.message()["offset"], 1);
    cluster.nodes[0].signal(libc::SIGKILL);
    assert!(!cluster.nodes[0].wait());
    for n in 2..=6 {
        assert_eq!(writer.publish("room", n), n);
    }
    // Neither has followed the channel so far.
    let mut reader = client(&cluster.nodes[2], "reader");
    let answer = reader.resume("room", &epoch, 1);
    assert_eq!(
        (&answer["recovered"], &answer["epoch"]),
        (&json!(true), &epoch)
    );
    for n in 2..=6 {
        assert_eq!(reader.message()["data"], n);
    }
    for n in 7..=20 {
        writer.publish("room", n);
    }
    // Ten are kept.
    let mut late = client(&cluster.nodes[1], "late");
    assert_eq!(late.resume("room", &epoch, 6)["recovered"], false);
    assert_eq!(late.message()["missed"], 4);
    assert_eq!(late.message()["offset"], 11);
    let history = late.ask(json!({"type": "history", "channel": "room", "after": 12, "limit": 5}));
    let offsets = history["messages"].as_array().unwrap().iter();
    let offsets: Vec<_> = offsets.map(|one| one["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [16, 17, 18, 19, 20]);
    assert_eq!(
        (&history["offset"], &history["epoch"]),
        (&json!(20), &epoch)
    );
}

#[test]
fn a_key_is_one_message_at_whatever_node() {
    let redis = Redis::durable();
    let cluster = cluster(&redis, &["--history_messages", "3"]);
    let mut first = client(&cluster.nodes[0], "writer");
    let mut second = client(&cluster.nodes[1], "writer");
    assert_eq!(publish(&mut first, 1, "a")["offset"], 1);
    assert_eq!(publish(&mut first, 1, "b")["offset"], 2);
    assert_eq!(publish(&mut second, 1, "a")["offset"], 1);
    // As long as the message is kept.
    publish(&mut second, 1, "c");
    assert_eq!(publish(&mut second, 1, "d")["offset"], 4);
    assert_eq!(publish(&mut second, 1, "b")["offset"], 2);
    assert_eq!(publish(&mut second, 1, "a")["offset"], 5);
}

#[test]
fn the_history_is_bounded_in_redis() {
    let redis = Redis::durable();
    let cluster = cluster(
        &redis,
        &["--history_bytes", "2000", "--history_seconds", "1000"],
    );
    let mut writer = client(&cluster.nodes[0], "writer");
    for n in 0..100 {
        publish(&mut writer, n, &format!("key {n}"));
    }
    let kept: u64 = redis.ask("XLEN push:{room}:s")[1..].parse().unwrap();
    assert!((5..16).contains(&kept), "{kept}");
    assert_eq!(redis.ask("HLEN push:{room}:k"), format!(":{kept}"));
    let left: u64 = redis.ask("TTL push:{room}:m")[1..].parse().unwrap();
    assert!((900..=1060).contains(&left), "{left}");
}

fn names(client: &mut Client) -> Vec<String> {
    let answer = client.ask(json!({"type": "presence", "channel": "room"}));
    let members = answer["members"].as_array().unwrap().iter();
    let names = members.map(|one| one["name"].as_str().unwrap().to_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn presence_is_that_of_all_nodes_and_forgets_a_dead_one() {
    let redis = Redis::durable();
    let mut cluster = cluster(&redis, &["--presence_ms", "3000"]);
    let mut ann = client(&cluster.nodes[0], "ann");
    let mut bob = client(&cluster.nodes[1], "bob");
    let mut cid = client(&cluster.nodes[2], "cid");
    for one in [&mut ann, &mut bob, &mut cid] {
        one.subscribe("room");
    }
    until("all are there", || names(&mut ann) == ["ann", "bob", "cid"]);
    bob.ask(json!({"type": "unsubscribe", "channel": "room"}));
    until("bob is gone", || names(&mut ann) == ["ann", "cid"]);
    cluster.nodes[2].signal(libc::SIGKILL);
    cluster.nodes[2].wait();
    // Ann's says again and again that she is there.
    until("cid's node is not believed", || names(&mut ann) == ["ann"]);
}

#[test]
fn without_its_bus_a_node_refuses_and_its_clients_stay() {
    let mut redis = Redis::durable();
    let cluster = cluster(&redis, &["--bus_ms", "1000"]);
    let mut reader = client(&cluster.nodes[0], "reader");
    let mut writer = client(&cluster.nodes[1], "writer");
    let epoch = reader.subscribe("room")["epoch"].clone();
    publish(&mut writer, 1, "1");
    redis.kill();
    assert_eq!(publish(&mut writer, 2, "2")["code"], "bus");
    until("the nodes know", || {
        let away = |node: &Node| node.ask("/health").ends_with("the bus is away\n");
        cluster.nodes.iter().all(away)
    });
    let refused = writer.ask(json!({"type": "subscribe", "channel": "other"}));
    assert_eq!(refused["code"], "bus", "{refused}");
    redis.restart();
    cluster.nodes.iter().for_each(await_health);
    until("it is published", || {
        publish(&mut writer, 2, "2")["offset"] == 2
    });
    for n in 1..=2 {
        assert_eq!(reader.message()["data"], n);
    }
    // Nobody had to do anything.
    assert_eq!(cluster.nodes[0].metric("push_accepted "), 1);
    let mut again = client(&cluster.nodes[2], "again");
    assert_eq!(again.resume("room", &epoch, 1)["recovered"], true);
    assert_eq!(again.message()["data"], 2);
}

#[test]
fn what_is_published_while_a_node_is_cut_off_comes_when_it_is_back() {
    let redis = Redis::durable();
    let proxy = Proxy::to(redis.address);
    let cut_off = format!("redis://{}", proxy.address);
    let cluster = Cluster::start(
        &[cut_off, redis.url()],
        &[&BLIND[..], &["--bus_ms", "500"]].concat(),
    );
    let mut reader = client(&cluster.nodes[0], "reader");
    let mut writer = client(&cluster.nodes[1], "writer");
    reader.subscribe("room");
    proxy.cut(true);
    for n in 1..=5 {
        writer.publish("room", n);
    }
    // It can't know whether it was published, so it must not say so.
    assert_eq!(publish(&mut reader, 9, "9")["code"], "bus");
    proxy.cut(false);
    for n in 1..=5 {
        assert_eq!(reader.message()["data"], n);
    }
    await_health(&cluster.nodes[0]);
    until("it is there once", || {
        publish(&mut reader, 9, "9")["offset"] == 6
    });
    assert_eq!(reader.message()["data"], 9);
    writer.publish("room", 7);
    assert_eq!(reader.message()["data"], 7);
}

/// Puts message 2 into the room, and tells nobody.
fn publish_untold(redis: &Redis) {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let time = now.as_millis();
    let added = redis.ask(&format!("XADD push:{{room}}:s 2-0 k '' t {time} d 2"));
    assert_eq!(added, "$3");
    assert_eq!(redis.ask("HSET push:{room}:m last 2"), ":0");
}

#[test]
fn a_message_that_was_not_told_comes_with_the_next() {
    let redis = Redis::durable();
    let cluster = cluster(&redis, &BLIND);
    let mut reader = client(&cluster.nodes[0], "reader");
    let mut writer = client(&cluster.nodes[1], "writer");
    reader.subscribe("room");
    writer.publish("room", 1);
    publish_untold(&redis);
    assert_eq!(writer.publish("room", 3), 3);
    for n in 1..=3 {
        assert_eq!(reader.message()["data"], n);
    }
}

#[test]
fn a_message_that_was_not_told_is_found() {
    let redis = Redis::durable();
    let cluster = cluster(&redis, &["--presence_ms", "1000"]);
    let mut reader = client(&cluster.nodes[0], "reader");
    reader.subscribe("room");
    client(&cluster.nodes[1], "writer").publish("room", 1);
    publish_untold(&redis);
    for n in 1..=2 {
        assert_eq!(reader.message()["data"], n);
    }
}

#[test]
fn who_has_seen_more_than_the_node_starts_where_it_was() {
    let redis = Redis::durable();
    let cluster = cluster(&redis, &BLIND);
    let mut first = client(&cluster.nodes[0], "first");
    let epoch = first.subscribe("room")["epoch"].clone();
    first.publish("room", 1);
    assert_eq!(first.message()["data"], 1);
    publish_untold(&redis);
    let mut second = client(&cluster.nodes[0], "second");
    assert_eq!(second.resume("room", &epoch, 2)["recovered"], true);
    first.publish("room", 3);
    assert_eq!(second.message()["data"], 3);
}

#[test]
fn a_bus_that_has_lost_messages_has_another_epoch() {
    let mut redis = Redis::start(&["--dbfilename", "dump.rdb"]);
    let cluster = cluster(&redis, &[]);
    let mut reader = client(&cluster.nodes[0], "reader");
    let mut writer = client(&cluster.nodes[1], "writer");
    let epoch = reader.subscribe("room")["epoch"].clone();
    for n in 1..=5 {
        publish(&mut writer, n, &n.to_string());
    }
    assert_eq!(redis.ask("SAVE"), "+OK");
    for n in 6..=8 {
        publish(&mut writer, n, &n.to_string());
    }
    for n in 1..=8 {
        assert_eq!(reader.message()["data"], n);
    }
    redis.kill();
    redis.restart();
    cluster.nodes.iter().for_each(await_health);
    // The number of the lost message, for another one.
    until("it is published", || {
        publish(&mut writer, 60, "60")["offset"] == 6
    });
    let reset = reader.message();
    assert_eq!(reset["type"], "reset", "{reset}");
    assert_ne!(reset["epoch"], epoch);
    let from = reset["offset"].as_u64().unwrap();
    for n in from + 1..=5 {
        assert_eq!(reader.message()["offset"], n);
    }
    assert_eq!(reader.message()["data"], 60);
    // Somebody who was away then.
    let mut again = client(&cluster.nodes[2], "again");
    let answer = again.resume("room", &epoch, 8);
    assert_eq!(answer["recovered"], false);
    assert_eq!(answer["epoch"], reset["epoch"]);
}

#[test]
fn a_bus_that_has_lost_everything_says_so() {
    let mut redis = Redis::start(&[]);
    let cluster = cluster(&redis, &BLIND);
    let mut reader = client(&cluster.nodes[0], "reader");
    let epoch = reader.subscribe("room")["epoch"].clone();
    let mut writer = client(&cluster.nodes[1], "writer");
    writer.publish("room", 1);
    assert_eq!(reader.message()["data"], 1);
    redis.kill();
    redis.restart();
    let reset = reader.message();
    assert_eq!(reset["type"], "reset", "{reset}");
    assert_ne!(reset["epoch"], epoch);
    cluster.nodes.iter().for_each(await_health);
    until("it is published", || {
        publish(&mut writer, 2, "2")["offset"] == 1
    });
    assert_eq!(reader.message()["data"], 2);
}

#[test]
fn a_node_that_is_alone_with_its_settings_says_what_is_wrong() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_push"))
        .args(["--bus", "kafka://127.0.0.1:1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("bus = kafka://127.0.0.1:1: embedded or"),
        "{text}"
    );
}
