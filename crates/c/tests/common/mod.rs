//! What the tests share: the libraries, as `scripts/link.sh` makes them, and programs.

use std::path::{Path, PathBuf};
use std::process::Command;

pub const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// A folder of one test, gone when it ends.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crore-c-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// One with the libraries in it.
    #[allow(dead_code, reason = "each test program has its copy")]
    pub fn with_libraries(name: &str) -> Self {
        Self::linked(name, &built())
    }

    /// One with the libraries of what cargo has put into a folder.
    pub fn linked(name: &str, built: &Path) -> Self {
        let folder = Self::new(name);
        let mut link = Command::new(Path::new(PACKAGE).join("scripts/link.sh"));
        run(link.arg(built).arg(&folder.0));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where cargo has put the archive and the library: beside this program.
pub fn built() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    deps.parent().unwrap().to_owned()
}

/// What a command that has to succeed says, on both streams.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(
        output.status.success(),
        "{command:?}: {} {text:?}",
        output.status
    );
    text.concat()
}

/// A compiler that finds the header.
#[allow(dead_code, reason = "each test program has its copy")]
pub fn compiler(name: &str) -> Command {
    let mut compiler = Command::new(name);
    compiler
        .args(["-Wall", "-Wextra", "-Werror"])
        .arg("-I")
        .arg(Path::new(PACKAGE).join("include"));
    compiler
}
