//! The programs that are measured, and how they are started.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use crore_peers::pipelined::Service;
use crore_peers::subject::Work;

/// A runtime, in the program that has it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    program: PathBuf,
    /// More tasks than this it can't have. A thread or a guarded stack takes two
    /// memory mappings, of which a process may have 65 530; those of libco are
    /// as many as there is memory for.
    pub(crate) most: u64,
    /// Operations are divided by this, because each takes so long.
    pub(crate) slow: u64,
}

/// Bytes of a coroutine of libco: 8 KiB that are its own, a page of its stack, one
/// of the allocator's before the stack, and some room.
const LIBCO: u64 = 18 * 1024;

/// What takes part only where its program is given, by the option of this name:
/// it is built with what not every machine has.
pub(crate) const GUESTS: [(&str, &[&str]); 3] = [
    ("go", &["go"]),
    ("libco", &["libco", "libco-shared"]),
    ("photon", &["photon"]),
];

impl Subject {
    /// All there are, with the programs of the guests that are there.
    pub(crate) fn all(guests: &BTreeMap<&str, PathBuf>) -> io::Result<Vec<Self>> {
        let beside = env::current_exe()?;
        let memory = available_memory()?;
        let named = |names: &[&'static str], program: PathBuf| -> Vec<Self> {
            let subject = |&name: &&'static str| Self {
                name,
                program: program.clone(),
                most: match name {
                    "threads" => 10_000,
                    "may" | "photon" => 30_000,
                    "libco" | "libco-shared" => memory / LIBCO,
                    _ => u64::MAX,
                },
                slow: if name == "threads" { 50 } else { 1 },
            };
            names.iter().map(subject).collect()
        };
        let mut all = named(
            &["crore", "crore-shared", "crore-2"],
            beside.with_file_name("subject_crore"),
        );
        all.extend(named(
            &[
                "corosensei",
                "epoll",
                "tokio",
                "tokio-2",
                "may",
                "monoio",
                "smol",
                "threads",
            ],
            beside.with_file_name("subject_peers"),
        ));
        for (guest, names) in GUESTS {
            let program = guests.get(guest);
            all.extend(program.into_iter().flat_map(|it| named(names, it.clone())));
        }
        match all.iter().find(|subject| !subject.program.is_file()) {
            None => Ok(all),
            Some(missing) => Err(io::Error::other(format!(
                "{} is missing; scripts/peers.sh builds it",
                missing.program.display()
            ))),
        }
    }

    /// Does some work in a process of its own; the figure that it prints.
    pub(crate) fn work(&self, work: Work, count: u64, operations: u64) -> io::Result<f64> {
        let [count, operations] = [count, operations].map(|number| number.to_string());
        let mut program = Command::new(&self.program);
        program.args(["work", self.name, work.name(), &count, &operations]);
        let output = program.stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.trim().parse() {
            Ok(figure) if output.status.success() => Ok(figure),
            _ => Err(io::Error::other(format!(
                "{} {work} ended with {} and said {text:?}",
                self.name, output.status
            ))),
        }
    }

    /// Whether it has servers of services whose clients do not wait.
    pub(crate) fn has_services(&self) -> bool {
        !GUESTS.iter().any(|(_, names)| names.contains(&self.name))
    }

    /// Starts its echo server, behind `prefix`, and waits until it listens.
    pub(crate) fn serve(&self, prefix: Option<Command>) -> io::Result<(Running, SocketAddr)> {
        self.start(&["serve", self.name], prefix)
    }

    /// Starts its server of `service`, and waits until it listens.
    pub(crate) fn pipelined(&self, service: Service) -> io::Result<(Running, SocketAddr)> {
        self.start(&["pipelined", self.name, service.name()], None)
    }

    fn start(
        &self,
        arguments: &[&str],
        prefix: Option<Command>,
    ) -> io::Result<(Running, SocketAddr)> {
        let mut program = match prefix {
            Some(mut prefix) => {
                prefix.arg(&self.program);
                prefix
            }
            None => Command::new(&self.program),
        };
        program.args(arguments).stdout(Stdio::piped());
        let mut child = program.spawn()?;
        let pid = child.id();
        let out = child.stdout.take().expect("it was piped");
        let mut running = Running { child, pid };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let said = line.trim().split_once(' ');
        let said = said.and_then(|(pid, addr)| Some((pid.parse().ok()?, addr.parse().ok()?)));
        let (pid, addr) = said
            .ok_or_else(|| io::Error::other(format!("the {} server did not start", self.name)))?;
        running.pid = pid;
        Ok((running, addr))
    }
}

/// Bytes that can be had without swapping.
fn available_memory() -> io::Result<u64> {
    let memory = fs::read_to_string("/proc/meminfo")?;
    let line = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| io::Error::other("no MemAvailable in /proc/meminfo"))
}

/// A server process; it ends with this value.
pub(crate) struct Running {
    /// The server itself, or strace around it.
    child: Child,
    /// The server.
    pub(crate) pid: u32,
}

impl Running {
    /// Ends the server, and waits until strace has written what it counted.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        // SAFETY: no pointers; the server lives, so the number is its.
        unsafe { libc::kill(self.pid as libc::pid_t, libc::SIGTERM) };
        self.child.wait().map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
