//! A real server as a child process: started for one test on a port of its
//! own, stopped when the test ends in whatever way.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Servers refuse to run as root, or should; this user owns nothing.
const NOBODY: &str = "nobody";

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: fs::File,
    address: SocketAddr,
    stop_signal: &'static str,
    _home: TempDir,
}

impl Server {
    /// Starts `program`, whose files are in `home`, and waits until it takes
    /// connections at `port`.
    ///
    /// Must be called outside of a runtime, on the thread of the test: the
    /// kernel kills the server should that thread go away without a `drop`.
    ///
    /// # Panics
    ///
    /// If the program is not installed, says so and what to install; if it
    /// ends or is not ready within a minute, with what it printed.
    pub fn start(
        program: &str,
        package: &str,
        home: TempDir,
        port: u16,
        args: &[impl AsRef<OsStr>],
    ) -> Self {
        let mut log = tempfile::tempfile().expect("a file for the server's words");
        let child = command(program, package)
            .args(args)
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log.try_clone().expect("a second handle"))
            .spawn()
            .expect("setpriv starts");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        log.rewind().expect("a file");
        let mut server = Self {
            child,
            log,
            address,
            stop_signal: "KILL",
            _home: home,
        };
        server.wait_ready(program);
        server
    }

    /// Stops it by this signal in the end. Without, it is killed: nothing of
    /// it is kept, so most servers need not be asked.
    #[must_use]
    pub fn stopped_by(mut self, signal: &'static str) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait_ready(&mut self, program: &str) {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait().expect("our child");
            if ended.is_some() || start.elapsed() > Duration::from_secs(60) {
                let mut words = String::new();
                let _ = self.log.rewind().and(self.log.read_to_string(&mut words));
                panic!("{program} does not serve ({ended:?}):\n{words}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill")
            .args(["-s", self.stop_signal, &pid])
            .status();
        let start = Instant::now();
        while let Ok(None) = self.child.try_wait() {
            if start.elapsed() > Duration::from_secs(10) {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A command that runs `program` as a user without rights and dies with the
/// thread that starts it.
///
/// # Panics
///
/// If the program is not installed.
pub fn command(program: &str, package: &str) -> Command {
    let path = find(program).unwrap_or_else(|| {
        panic!(
            "{program} is not installed, and this test is about nothing else: \
             apt-get install {package}"
        )
    });
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid", NOBODY, "--regid", "nogroup", "--clear-groups"]);
    }
    command.arg(path);
    command
}

/// Looks where Debian puts programs; PostgreSQL's are in a folder for each
/// version, of which the last will do.
fn find(program: &str) -> Option<PathBuf> {
    let mut places: Vec<PathBuf> = ["/usr/sbin", "/usr/bin", "/usr/local/bin"]
        .map(PathBuf::from)
        .into();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|it| it.path().join("bin")));
    }
    places.sort();
    let mut files = places.iter().map(|place| place.join(program));
    files.rfind(|file| file.is_file())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// An empty folder for a server, which its user may write.
///
/// # Panics
///
/// If it can't be made.
pub fn home() -> TempDir {
    let home = TempDir::with_prefix("crore-clients-").expect("a temporary folder");
    if is_root() {
        let given = Command::new("chown")
            .arg(format!("{NOBODY}:nogroup"))
            .arg(home.path())
            .status();
        assert!(given.is_ok_and(|status| status.success()), "chown");
    }
    home
}

/// A port where nobody listens, and that the kernel gives to nobody who asks
/// for any (it begins at 32 768 with those): thousands of clients do, all the
/// time.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Other processes of these tests begin elsewhere.
    let offset = process::id().wrapping_mul(97);
    (0..COUNT)
        .map(|_| {
            let next = offset.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
            u16::try_from(FIRST + next % COUNT).expect("below 30 000")
        })
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("a free port")
}

/// Runs a program that sets a server's files up.
///
/// # Panics
///
/// If it fails, with what it printed.
pub fn set_up(mut command: Command) {
    let said = command
        .output()
        .unwrap_or_else(|error: io::Error| panic!("{command:?}: {error}"));
    assert!(
        said.status.success(),
        "{command:?}: {}\n{}{}",
        said.status,
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}
