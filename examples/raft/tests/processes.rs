//! The programs: three nodes, each a process, killed and started again; the client's.

mod support;

use std::process::{Child, Command, Output, Stdio};

use crore_raft::config::Member;
use support::members;

/// A node that is killed when the test ends.
struct Node(Child);

impl Node {
    fn start(node: usize, members: &[Member], dir: &std::path::Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raft"));
        let name = &members[node].name;
        command.args(["--name", name, "--dir"]).arg(dir.join(name));
        for member in members {
            command.arg("--member");
            command.arg(format!("{}={}", member.name, member.address));
        }
        Self(command.spawn().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn client(members: &[Member], words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raft_client"));
    for member in members {
        command.args(["--node", &member.address]);
    }
    command.args(words).output().unwrap()
}

fn says(members: &[Member], words: &[&str]) -> String {
    let output = client(members, words);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn values_outlast_the_death_of_each_node() {
    let (members, dir) = (members(3), tempfile::tempdir().unwrap());
    let start = |node| Node::start(node, &members, dir.path());
    let mut nodes: Vec<_> = (0..3).map(start).collect();
    assert_eq!(says(&members, &["put", "k", "a"]), "");
    for (node, dead) in nodes.iter_mut().enumerate() {
        // Whoever leads dies sooner or later.
        dead.0.kill().unwrap();
        dead.0.wait().unwrap();
        says(&members, &["append", "k", &node.to_string()]);
        *dead = start(node);
    }
    assert_eq!(says(&members, &["get", "k"]), "a012\n");
    says(&members, &["swap", "k", "a012", "b"]);
    assert_eq!(
        client(&members, &["swap", "k", "a012", "c"]).status.code(),
        Some(1)
    );
    says(&members, &["delete", "k"]);
    assert_eq!(client(&members, &["get", "k"]).status.code(), Some(1));
}

#[test]
fn bad_arguments_are_refused() {
    for (program, words) in [
        (env!("CARGO_BIN_EXE_raft"), &["--name", "a"][..]),
        (
            env!("CARGO_BIN_EXE_raft"),
            &["--name", "a", "--dir", "d", "--member", "b=c:1"],
        ),
        (env!("CARGO_BIN_EXE_raft_client"), &["get", "k"]),
        (env!("CARGO_BIN_EXE_raft_client"), &["--node", "a:1", "get"]),
    ] {
        let mut command = Command::new(program);
        let status = command.args(words).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(2), "{program} {words:?}");
    }
}
