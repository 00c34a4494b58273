//! Looks into a running program: what its coroutines do, and what its runtime counts.
//!
//! The program [serves](serve); the command `crore`, or another program of the same
//! user, [asks](ask). They meet at a Unix socket of the kernel's abstract names, which
//! leaves no file behind. A question is one line, and the answer all that comes until
//! the end.
//!
//! ```
//! use crore_inspect::Question;
//!
//! let runtime = crore::Runtime::builder().build()?;
//! let _inspected = crore_inspect::serve(runtime.handle())?;
//! let text = runtime.run(|| {
//!     crore::spawn_blocking(|| crore_inspect::ask(std::process::id(), Question::Dump)).join()
//! })?;
//! assert!(text.unwrap()?.contains("'main'"));
//! # std::io::Result::Ok(())
//! ```

mod client;
mod peer;
mod server;
mod summary;
mod text;

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

pub use client::ask;
pub use server::{Inspected, serve};
pub use summary::{Place, Summary};
pub use text::prometheus;

/// How long either side waits for the other: a busy worker has a second to answer a dump.
const PATIENCE: Duration = Duration::from_secs(20);

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// All coroutines, in words: [`crore::Dump`].
    Dump,
    /// The same as JSON.
    Json,
    /// What the runtime counts, as [Prometheus](prometheus) reads it.
    Metrics,
    /// How many do what, and where they were spawned: a [`Summary`].
    Summary,
    /// Where processor time goes for five seconds: a [`crore::Profile`].
    Profile,
    /// Where coroutines wait for locks, for five seconds: a [`crore::Contention`].
    Contention,
}

impl Question {
    const ALL: [Self; 6] = [
        Self::Dump,
        Self::Json,
        Self::Metrics,
        Self::Summary,
        Self::Profile,
        Self::Contention,
    ];

    fn line(self) -> &'static str {
        match self {
            Self::Dump => "dump\n",
            Self::Json => "json\n",
            Self::Metrics => "metrics\n",
            Self::Summary => "summary\n",
            Self::Profile => "profile\n",
            Self::Contention => "contention\n",
        }
    }

    fn parse(line: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.line() == line)
    }
}

/// Where a process is asked.
fn address(process: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("crore/{process}"))
}
