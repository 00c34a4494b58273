//! SIGTERM, and settings that change while the node runs.

mod support;

use std::net::TcpStream;

use serde_json::json;
use support::{Client, Node};

#[test]
fn a_node_that_ends_says_goodbye_to_all() {
    for stacks in ["own", "shared"] {
        let mut node = Node::start(&["--stacks", stacks, "--grace_ms", "60000"]);
        let mut clients: Vec<_> = (0..50)
            .map(|i| Client::connect(node.clients, &format!("c{i}")))
            .collect();
        for client in &mut clients {
            client.subscribe("room");
        }
        let offset = clients[0].publish("room", "last");
        node.signal(libc::SIGTERM);
        for client in &mut clients {
            let last = client.message();
            assert_eq!(last["offset"], offset);
            let goodbye = client.message();
            assert_eq!(goodbye["type"], "goodbye");
            assert!(
                goodbye["reconnect_ms"].as_u64().unwrap() < 1000,
                "{goodbye}"
            );
            let why = client.closed();
            assert!(why.starts_with("1001: reconnect in "), "{why}");
        }
        assert!(node.wait());
        assert!(TcpStream::connect(node.clients).is_err());
    }
}

#[test]
fn the_grace_is_for_those_that_hang_and_no_longer() {
    let mut node = Node::start(&["--grace_ms", "100", "--rate", "100000", "--burst", "100000"]);
    let mut stuck = Client::connect(node.clients, "stuck");
    stuck.subscribe("room");
    let mut writer = Client::connect(node.clients, "writer");
    let text = "x".repeat(50_000);
    for _ in 0..1000 {
        writer.publish("room", &*text);
    }
    node.signal(libc::SIGTERM);
    assert!(node.wait());
}

#[test]
fn settings_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, new) = (dir.path().join("push.conf"), dir.path().join("new"));
    // The node sees all of a file or nothing, as with a careful editor.
    let write = |text: &str| {
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
    };
    write("frame = 100000\nclient_channels = 1\n");
    let node = Node::start(&["--config", path.to_str().unwrap()]);
    let mut client = Client::connect(node.clients, "client");
    client.subscribe("a");
    let second = json!({"type": "subscribe", "channel": "b"});
    assert_eq!(client.ask(second.clone())["code"], "limit");

    // A mistake changes nothing, nor does what only a restart can change.
    for wrong in [
        "client_channels = 2\nno such line\n",
        "client_channels = 2\ngrace_ms = 7\n",
    ] {
        write(wrong);
        node.signal(libc::SIGHUP);
        assert_eq!(client.ask(second.clone())["code"], "limit");
    }
    write("frame = 100000\nclient_channels = 2\n");
    // The mistakes may still be being read.
    node.signal(libc::SIGHUP);
    node.await_metric("push_reloads ", |n| n >= 1);
    assert_eq!(client.ask(second)["type"], "subscribed");
}

#[test]
fn wrong_arguments_are_refused_with_a_reason() {
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_push"))
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), text)
    };
    for (arguments, why) in [
        (&["--rate", "many"][..], "rate = many: "),
        (&["--colour", "red"], "there is no setting colour"),
        (&["--config", "/none"], "/none: "),
        (
            &["--tls_cert", "/none", "--tls_key", "/none"],
            "tls_cert = /none: ",
        ),
        (&["extra"], "unexpected argument"),
    ] {
        let (code, text) = run(arguments);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(why), "{text}");
    }
    let (code, text) = run(&["--listen", "192.0.2.1:1"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("192.0.2.1:1: "), "{text}");
}
