//! The child processes: this program again, in its two roles.
//!
//! None outlives the program: a child asks the kernel to end it when its parent
//! ends, however that comes about, and what is dropped here is ended and waited
//! for.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::{env, process, thread};

use crate::options::{Parent, SERVICES, Sources};
use crate::server::Service;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// How far it is in the present step.
    At(usize),
    /// Nanoseconds of messages there and back.
    Took(Vec<u64>),
    /// What went wrong.
    Failed(String),
    /// The step is over.
    Done,
    /// The process has ended.
    Gone,
}

/// A server process.
pub(crate) struct Server {
    child: Role,
    pub(crate) address: SocketAddr,
}

/// All client processes, by number, and what they say.
pub(crate) struct Clients {
    children: Vec<(Role, ChildStdin)>,
    words: Receiver<(usize, Word)>,
    speak: Sender<(usize, Word)>,
}

/// A child, ended when dropped.
struct Role(Child);

impl Role {
    fn start(args: &[String]) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        let mut child = Command::new(env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map(Self)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot start a process: {e}")))?;
        let stdin = child.0.stdin.take().expect("asked for a pipe");
        let stdout = child.0.stdout.take().expect("asked for a pipe");
        Ok((child, stdin, stdout))
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In a child: from now on it ends when `parent` does.
pub(crate) fn end_with(parent: Parent) {
    // SAFETY: takes a signal's number and no pointer.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
    // It may have ended before we asked.
    if std::os::unix::process::parent_id() != parent {
        process::exit(1);
    }
}

impl Server {
    pub(crate) fn start(service: Service) -> io::Result<Self> {
        let mut names = SERVICES.iter().filter(|(_, known)| *known == service);
        let (name, _) = names.next().expect("every service has a name");
        let me = process::id().to_string();
        let (child, _, stdout) = Role::start(&["serve".into(), me, name.to_string()])?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse();
        let address = address.map_err(|_| io::Error::other("a server process did not start"))?;
        Ok(Self { child, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }
}

impl Clients {
    pub(crate) fn new() -> Self {
        let (speak, words) = channel();
        Self {
            children: Vec::new(),
            words,
            speak,
        }
    }

    pub(crate) fn start(&mut self, sources: Sources) -> io::Result<()> {
        let Sources {
            server,
            first,
            each,
        } = sources;
        let (me, number) = (process::id(), self.children.len());
        let args = [
            "drive".into(),
            me.to_string(),
            server.to_string(),
            first.to_string(),
            each.to_string(),
        ];
        let (child, stdin, stdout) = Role::start(&args)?;
        let speak = self.speak.clone();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let words = lines.map(|line| Word::parse(&line));
            for word in words.chain([Word::Gone]) {
                if speak.send((number, word)).is_err() {
                    return;
                }
            }
        });
        self.children.push((child, stdin));
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.children.len()
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.children.iter().map(|(child, _)| child.0.id())
    }

    /// Tells a client what to do. If it has ended, it says so itself.
    pub(crate) fn tell(&mut self, number: usize, command: &str) {
        let _ = writeln!(self.children[number].1, "{command}");
    }

    /// What the next one says, and which.
    pub(crate) fn hear(&self) -> (usize, Word) {
        self.words.recv().expect("we can speak ourselves")
    }

    /// Ends all clients, which closes their connections, and waits for that.
    pub(crate) fn end(self) {
        let (children, stdins): (Vec<_>, Vec<_>) = self.children.into_iter().unzip();
        drop(stdins);
        for mut child in children {
            // Closing thousands of sockets takes its time.
            let _ = child.0.wait();
        }
    }
}

impl Word {
    fn parse(line: &str) -> Self {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "at" => rest
                .parse()
                .map_or_else(|_| Self::Failed(line.into()), Self::At),
            "took" => Self::Took(
                rest.split(' ')
                    .filter_map(|word| word.parse().ok())
                    .collect(),
            ),
            "done" => Self::Done,
            "failed" => Self::Failed(rest.into()),
            _ => Self::Failed(line.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood() {
        assert_eq!(Word::parse("at 7"), Word::At(7));
        assert_eq!(Word::parse("took 1 22"), Word::Took(vec![1, 22]));
        assert_eq!(Word::parse("took"), Word::Took(vec![]));
        assert_eq!(Word::parse("done"), Word::Done);
        assert_eq!(
            Word::parse("failed out of files"),
            Word::Failed("out of files".into())
        );
        assert_eq!(Word::parse("hm"), Word::Failed("hm".into()));
    }
}
