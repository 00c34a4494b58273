//! A real server as a child process: started for one test on a port of its
//! own, stopped when the test ends in whatever way.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
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
            _home: home,
        };
        server.wait_ready(program);
        server
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
        // Nothing of it is kept, so it need not be asked to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// A port where nobody listens.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    bound.expect("a port").port()
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
