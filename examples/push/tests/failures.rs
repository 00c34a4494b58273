//! What fails while messages flow: nodes, the bus, the balancer, the network. Clients
//! come back and resume; every message comes to every subscriber, once, in order.
//!
//! `CRORE_PUSH_ROUNDS=50` does each so many times; `CRORE_PUSH_FANOUT=nats` has NATS tell
//! the nodes of messages.

mod support;

use std::thread::sleep;
use std::time::Duration;

use support::cluster::{Balancer, Cluster, Load, Nats, Redis, await_health, until};
use support::proxy::Proxy;

/// Messages that have to come through between one failure and the next.
const FLOW: u64 = 200;
/// What is kept has to last until the last client is back.
const NODE: [&str; 6] = [
    "--heartbeat_ms",
    "500",
    "--bus_ms",
    "1000",
    "--history_messages",
    "100000",
];
const LOAD: [&str; 6] = ["--connections", "60", "--channels", "20", "--rate", "20"];

fn rounds() -> usize {
    let rounds = std::env::var("CRORE_PUSH_ROUNDS");
    rounds.map_or(1, |rounds| rounds.parse().expect("a number of rounds"))
}

/// Three nodes, at these addresses of Redis, and who else tells them of messages.
struct Service {
    cluster: Cluster,
    nats: Option<Nats>,
}

fn service(buses: [String; 3], nats: Option<Nats>) -> Service {
    let url = nats.as_ref().map(Nats::url);
    let fanout = url.as_ref().map_or("redis", |url| url);
    let more = [
        "--history_bytes",
        "100000000",
        "--grace_ms",
        "60000",
        "--fanout",
        fanout,
    ];
    let cluster = Cluster::start(&buses, &[&NODE[..], &more].concat());
    Service { cluster, nats }
}

/// As the environment has it.
fn chosen(buses: [String; 3]) -> Service {
    let fanout = std::env::var("CRORE_PUSH_FANOUT");
    let nats = fanout.is_ok_and(|which| which == "nats");
    service(buses, nats.then(Nats::start))
}

fn thrice(redis: &Redis) -> [String; 3] {
    [redis.url(), redis.url(), redis.url()]
}

#[test]
fn nodes_are_killed() {
    let redis = Redis::durable();
    let mut service = chosen(thrice(&redis));
    let cluster = &mut service.cluster;
    let load = Load::start(&cluster.addresses(), &LOAD);
    for round in 0..rounds() * 3 {
        Load::await_published(&cluster.nodes, FLOW);
        let i = round % 3;
        cluster.nodes[i].signal(libc::SIGKILL);
        cluster.nodes[i].wait();
        let others = [&cluster.nodes[(i + 1) % 3], &cluster.nodes[(i + 2) % 3]];
        Load::await_published(others, FLOW);
        cluster.restart(i);
    }
    let result = load.check();
    assert!(result["reconnects"].as_u64() > Some(0), "{result}");
}

#[test]
fn the_bus_is_killed() {
    let mut redis = Redis::durable();
    let service = chosen(thrice(&redis));
    let cluster = &service.cluster;
    let load = Load::start(&cluster.addresses(), &LOAD);
    for round in 0..rounds() * 2 {
        Load::await_published(&cluster.nodes, FLOW);
        redis.kill();
        if round % 2 == 1 {
            // Long enough for everybody to know.
            sleep(Duration::from_secs(1));
        }
        redis.restart();
        cluster.nodes.iter().for_each(await_health);
    }
    Load::await_published(&cluster.nodes, FLOW);
    load.check();
    for node in &cluster.nodes {
        assert_eq!(node.metric("push_resets "), 0);
    }
}

/// What was published meanwhile comes when it is back, and nothing is refused.
#[test]
fn what_tells_of_messages_is_killed() {
    let redis = Redis::durable();
    let mut service = service(thrice(&redis), Some(Nats::start()));
    let (nodes, nats) = (&service.cluster.nodes, service.nats.as_mut().unwrap());
    let load = Load::start(&service.cluster.addresses(), &LOAD);
    for round in 0..rounds() * 2 {
        Load::await_published(nodes, FLOW);
        nats.kill();
        if round % 2 == 1 {
            Load::await_published(nodes, FLOW);
        }
        nats.restart();
        nodes.iter().for_each(await_health);
    }
    Load::await_published(nodes, FLOW);
    load.check();
}

#[test]
fn a_node_is_stopped() {
    let redis = Redis::durable();
    let service = chosen(thrice(&redis));
    let cluster = &service.cluster;
    let load = Load::start(&cluster.addresses(), &LOAD);
    for round in 0..rounds() {
        let i = round % 3;
        Load::await_published(&cluster.nodes, FLOW);
        cluster.nodes[i].signal(libc::SIGSTOP);
        let others = [&cluster.nodes[(i + 1) % 3], &cluster.nodes[(i + 2) % 3]];
        // Its clients notice that it is silent.
        let before = others.map(|node| node.metric("push_accepted "));
        until("its clients go elsewhere", || {
            let now = others.map(|node| node.metric("push_accepted "));
            now[0] + now[1] >= before[0] + before[1] + 20
        });
        Load::await_published(others, FLOW);
        cluster.nodes[i].signal(libc::SIGCONT);
        await_health(&cluster.nodes[i]);
    }
    Load::await_published(&cluster.nodes, FLOW);
    load.check();
}

#[test]
fn a_node_is_cut_off_from_the_bus() {
    let redis = Redis::durable();
    let proxy = Proxy::to(redis.address);
    let cut_off = format!("redis://{}", proxy.address);
    let service = chosen([cut_off, redis.url(), redis.url()]);
    let cluster = &service.cluster;
    let load = Load::start(&cluster.addresses(), &LOAD);
    for round in 0..rounds() * 2 {
        Load::await_published(&cluster.nodes, FLOW);
        proxy.cut(true);
        if round % 2 == 0 {
            // Too short for anybody to notice, if the machine is quick.
            sleep(Duration::from_millis(100));
        } else {
            until("it notices", || {
                cluster.nodes[0]
                    .ask("/health")
                    .ends_with("the bus is away\n")
            });
        }
        Load::await_published(&cluster.nodes[1..], FLOW);
        proxy.cut(false);
        await_health(&cluster.nodes[0]);
    }
    Load::await_published(&cluster.nodes, FLOW);
    load.check();
}

#[test]
fn clients_are_cut_off_from_a_node() {
    let redis = Redis::durable();
    let service = chosen(thrice(&redis));
    let cluster = &service.cluster;
    let proxies: Vec<_> = cluster.addresses().into_iter().map(Proxy::to).collect();
    let to: Vec<_> = proxies.iter().map(|proxy| proxy.address).collect();
    let load = Load::start(&to, &LOAD);
    for round in 0..rounds() {
        // Clients stay where they went, so the next time it is another node.
        let i = round % 3;
        Load::await_published(&cluster.nodes, FLOW);
        let closed = cluster.nodes[i].metric("push_closed_silent ");
        proxies[i].cut(true);
        let others = [&cluster.nodes[(i + 1) % 3], &cluster.nodes[(i + 2) % 3]];
        Load::await_published(others, FLOW);
        // The node notices as well.
        cluster.nodes[i].await_metric("push_closed_silent ", |n| n > closed);
        proxies[i].cut(false);
    }
    Load::await_published(&cluster.nodes, FLOW);
    load.check();
}

#[test]
fn versions_change_node_by_node() {
    let redis = Redis::durable();
    let mut service = chosen(thrice(&redis));
    let cluster = &mut service.cluster;
    let load = Load::start(&cluster.addresses(), &LOAD);
    for round in 0..rounds() * 3 {
        let i = round % 3;
        Load::await_published(&cluster.nodes, FLOW);
        cluster.nodes[i].signal(libc::SIGTERM);
        // All have left before its grace was over.
        assert!(cluster.nodes[i].wait());
        let words = cluster.nodes[i].last_words();
        assert!(words.ends_with(" 0 connections cut"), "{words}");
        cluster.restart(i);
    }
    Load::await_published(&cluster.nodes, FLOW);
    let result = load.check();
    assert!(result["reconnects"].as_u64() > Some(0), "{result}");
}

#[test]
fn the_balancer_is_killed() {
    let redis = Redis::durable();
    let mut service = chosen(thrice(&redis));
    let cluster = &mut service.cluster;
    let mut balancer = Balancer::start(&cluster.nodes);
    // Twice: so it is an address to come back to.
    let load = Load::start(&[balancer.address, balancer.address], &LOAD);
    for round in 0..rounds() {
        Load::await_published(&cluster.nodes, FLOW);
        balancer.kill();
        balancer.restart();
        Load::await_published(&cluster.nodes, FLOW);
        // It sends nobody to a node that is gone.
        let i = round % 3;
        cluster.nodes[i].signal(libc::SIGKILL);
        cluster.nodes[i].wait();
        let others = [&cluster.nodes[(i + 1) % 3], &cluster.nodes[(i + 2) % 3]];
        Load::await_published(others, FLOW);
        cluster.restart(i);
    }
    load.check();
}
