//! One node, end to end: what clients are promised.

mod support;

use serde_json::{Value, json};
use support::{Client, Node, connect, get};

/// On stacks of their own and on shared ones.
fn on_both(test: impl Fn(&str)) {
    for stacks in ["own", "shared"] {
        test(stacks);
    }
}

#[test]
fn subscribers_get_every_message_in_order() {
    on_both(|stacks| {
        let node = Node::start(&["--stacks", stacks, "--rate", "100000", "--burst", "100000"]);
        let mut readers: Vec<_> = (0..5)
            .map(|i| Client::connect(node.clients, &format!("reader-{i}")))
            .collect();
        for reader in &mut readers {
            reader.subscribe("room");
        }
        let mut writer = Client::connect(node.clients, "writer");
        for n in 1..=200 {
            assert_eq!(writer.publish("room", json!({"n": n})), n);
        }
        for reader in &mut readers {
            for n in 1..=200 {
                let message = reader.message();
                assert_eq!(message["type"], "message");
                assert_eq!(message["channel"], "room");
                assert_eq!(message["offset"], n);
                assert_eq!(message["data"]["n"], n);
            }
        }
        node.await_metric("push_deliveries ", |n| n == 1000);
        assert_eq!(node.metric("push_published "), 200);
        assert_eq!(node.metric("push_sockets "), 6);
        drop((readers, writer));
        node.await_metric("push_sockets ", |n| n == 0);
        node.await_metric("push_connections ", |n| n == 0);
    });
}

#[test]
fn who_comes_back_gets_what_it_missed() {
    let node = Node::start(&["--history_messages", "10"]);
    let mut writer = Client::connect(node.clients, "writer");
    let mut reader = Client::connect(node.clients, "reader");
    let epoch = reader.subscribe("room")["epoch"].clone();
    writer.publish("room", 1);
    assert_eq!(reader.message()["offset"], 1);
    drop(reader);
    for n in 2..=6 {
        writer.publish("room", n);
    }
    let mut reader = Client::connect(node.clients, "reader");
    assert_eq!(reader.resume("room", &epoch, 1)["recovered"], true);
    for n in 2..=6 {
        assert_eq!(reader.message()["data"], n);
    }
    // Ten are kept: of 6 to 17 the first two are gone.
    for n in 7..=17 {
        writer.publish("room", n);
    }
    let mut late = Client::connect(node.clients, "late");
    assert_eq!(late.resume("room", &epoch, 5)["recovered"], false);
    let lag = late.message();
    assert_eq!((&lag["type"], &lag["missed"]), (&json!("lag"), &json!(2)));
    for n in 8..=17 {
        assert_eq!(late.message()["offset"], n);
    }
    // Another history: nothing of this one is known.
    let mut other = Client::connect(node.clients, "other");
    assert_eq!(other.resume("room", &json!("none"), 17)["recovered"], false);
    assert_eq!(other.message()["offset"], 8);
}

#[test]
fn a_message_published_twice_by_its_key_is_there_once() {
    let node = Node::start(&[]);
    let mut writer = Client::connect(node.clients, "writer");
    let publish = json!({"type": "publish", "channel": "room", "data": [1], "key": "k"});
    let first = writer.ask(publish.clone());
    assert_eq!(writer.ask(publish)["offset"], first["offset"]);
    let history = writer.ask(json!({"type": "history", "channel": "room"}));
    assert_eq!(history["messages"].as_array().unwrap().len(), 1);
    assert_eq!(history["messages"][0]["data"], json!([1]));
    let after = writer.ask(json!({"type": "history", "channel": "room", "after": 1}));
    assert_eq!(
        (&after["messages"], &after["offset"]),
        (&json!([]), &json!(1))
    );
}

#[test]
fn presence_says_who_is_there() {
    let node = Node::start(&[]);
    let mut ann = Client::connect(node.clients, "ann");
    let mut bob = Client::connect(node.clients, "bob");
    ann.subscribe("room");
    bob.subscribe("room");
    let names = |client: &mut Client| {
        let answer = client.ask(json!({"type": "presence", "channel": "room"}));
        let members = answer["members"].as_array().unwrap().iter();
        let mut names: Vec<_> = members.map(|one| one["name"].clone()).collect();
        names.sort_by_key(Value::to_string);
        names
    };
    assert_eq!(names(&mut ann), ["ann", "bob"]);
    bob.ask(json!({"type": "unsubscribe", "channel": "room"}));
    assert_eq!(names(&mut ann), ["ann"]);
    bob.subscribe("room");
    drop(bob);
    node.await_metric("push_sockets ", |n| n == 1);
    assert_eq!(names(&mut ann), ["ann"]);
}

#[test]
fn nothing_comes_after_unsubscribing() {
    let node = Node::start(&[]);
    let mut reader = Client::connect(node.clients, "reader");
    let mut writer = Client::connect(node.clients, "writer");
    reader.subscribe("room");
    writer.publish("room", 1);
    reader.ask(json!({"type": "unsubscribe", "channel": "room"}));
    writer.publish("room", 2);
    assert_eq!(reader.message()["data"], 1);
    let pong = reader.ask(json!({"type": "ping"}));
    assert_eq!(pong["type"], "pong");
    reader.send(json!({"type": "ping"}));
    assert_eq!(reader.message()["type"], "pong", "message 2 did not come");
}

#[test]
fn the_pages_are_there() {
    let node = Node::start(&[]);
    let mut client = Client::connect(node.clients, "client");
    client.subscribe("room");
    let page = get(node.clients, "/?room=x");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("new WebSocket("), "{page}");
    assert!(get(node.clients, "/none").starts_with("HTTP/1.1 404 "));
    assert!(node.ask("/health").ends_with("ready\n"));
    let metrics = node.ask("/metrics");
    assert!(metrics.contains("\npush_sockets 1\n"), "{metrics}");
    assert!(metrics.contains("\npush_channels 1\n"), "{metrics}");
    assert!(
        metrics.contains("\ncrore_spawned{worker=\"1\"} "),
        "{metrics}"
    );
    let dump = node.ask("/dump");
    assert!(dump.contains("'acceptor 1'"), "{dump}");
    assert!(dump.contains("parked"), "{dump}");
    assert!(
        !get(node.clients, "/metrics").contains("push_"),
        "not the clients'"
    );
}

#[test]
fn tls_is_the_same_service() {
    use std::sync::Arc;

    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["node".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    on_both(|stacks| {
        let files = [cert.to_str().unwrap(), key.to_str().unwrap()];
        let node = Node::start(&[
            "--stacks",
            stacks,
            "--tls_cert",
            files[0],
            "--tls_key",
            files[1],
        ]);
        let client = |name| {
            let name_of_node = "node".try_into().unwrap();
            let tls = rustls::ClientConnection::new(config.clone(), name_of_node).unwrap();
            Client::over(rustls::StreamOwned::new(tls, connect(node.clients)), name)
        };
        let (mut reader, mut writer) = (client("reader"), client("writer"));
        reader.subscribe("room");
        let long = "x".repeat(40_000);
        for _ in 0..20 {
            writer.publish("room", &*long);
        }
        for n in 1..=20 {
            let message = reader.message();
            assert_eq!(
                (&message["offset"], &message["data"]),
                (&json!(n), &json!(long))
            );
        }
    });
}
