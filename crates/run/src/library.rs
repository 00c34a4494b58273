//! Where the library is that goes into the program: beside the command, if it is of the same
//! build, or unpacked from it into a folder of the user's, where it stays for the next time. (A path, and no
//! descriptor: programs close those that they do not know.)

use std::path::{Path, PathBuf};

/// Which one: a program in a simulation has another build, so that others are without.
#[derive(Clone, Copy)]
pub(crate) enum Library {
    Plain,
    Simulates,
}

impl Library {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "libcrore_preload.so",
            Self::Simulates => "libcrore_preload_sim.so",
        }
    }
}

/// # Errors
///
/// Where it was looked for, in words.
pub(crate) fn find(which: Library) -> Result<PathBuf, String> {
    let command = std::env::current_exe().map_err(|why| format!("the command's place: {why}"))?;
    let folder = command.parent().unwrap_or(Path::new("/"));
    let name = which.name();
    carried::find(which, &[folder.join(name), folder.join("deps").join(name)])
}

#[cfg(not(carries_library))]
mod carried {
    use std::fs;
    use std::path::PathBuf;
    use std::time::SystemTime;

    /// While it is developed: what was built last, of the one that cargo leaves beside the
    /// command where it builds the library by itself, and the one that it always leaves
    /// among the dependencies.
    pub(super) fn find(which: super::Library, beside: &[PathBuf]) -> Result<PathBuf, String> {
        newest(beside).cloned().ok_or(format!(
            "there is no {} beside the command, and it carries none, which a release does",
            which.name()
        ))
    }

    fn newest(beside: &[PathBuf]) -> Option<&PathBuf> {
        let built = |path: &PathBuf| fs::metadata(path).and_then(|it| it.modified()).ok();
        let there = beside.iter().filter_map(|path| Some((built(path)?, path)));
        there.max_by_key(|it: &(SystemTime, _)| it.0).map(|it| it.1)
    }

    #[test]
    fn the_library_is_the_one_that_was_built_last() {
        let folder = std::env::temp_dir().join(format!("crore-library-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let paths = ["one", "other", "absent"].map(|name| folder.join(name));
        let moment = std::time::Duration::from_secs(1);
        let long_ago = SystemTime::UNIX_EPOCH + moment;
        for (path, built) in [(&paths[0], long_ago + moment), (&paths[1], long_ago)] {
            let file = fs::File::create(path).unwrap();
            file.set_modified(built).unwrap();
        }
        assert_eq!(newest(&paths), Some(&paths[0]));
        let file = fs::File::create(&paths[1]).unwrap();
        file.set_modified(long_ago + 2 * moment).unwrap();
        let found = newest(&paths).cloned();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.as_ref(), Some(&paths[1]));
        assert_eq!(newest(&paths), None);
    }
}

#[cfg(carries_library)]
mod carried {
    use std::fs::{self, DirBuilder, OpenOptions};
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::io::{self, Write};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
    use std::path::{Path, PathBuf};

    use super::Library;

    const LIBRARY: &[u8] = include_bytes!(env!("CRORE_LIBRARY"));
    const SIMULATES: &[u8] = include_bytes!(env!("CRORE_LIBRARY_SIM"));

    /// One beside the command if it is the very same; or it is unpacked.
    pub(super) fn find(which: Library, beside: &[PathBuf]) -> Result<PathBuf, String> {
        let library = match which {
            Library::Plain => LIBRARY,
            Library::Simulates => SIMULATES,
        };
        match beside.iter().find(|path| has(path, library)) {
            Some(path) => Ok(path.clone()),
            None => unpack(library),
        }
    }

    fn has(at: &Path, library: &[u8]) -> bool {
        fs::read(at).is_ok_and(|bytes| bytes == library)
    }

    fn unpack(library: &[u8]) -> Result<PathBuf, String> {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
        // SAFETY: no preconditions.
        let user = unsafe { libc::getuid() };
        let shared = std::env::temp_dir().join(format!("crore-{user}"));
        let places = home.map(|home| home.join("crore"));
        let mut why = String::new();
        for folder in places.into_iter().chain([shared]) {
            match unpack_in(&folder, user, library) {
                Ok(path) => return Ok(path),
                Err(error) => why = format!("{}: {error}", folder.display()),
            }
        }
        Err(format!("the library can't be unpacked: {why}"))
    }

    /// Nobody else may write there: what is in it is loaded.
    fn unpack_in(folder: &Path, user: u32, library: &[u8]) -> io::Result<PathBuf> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let known = fs::symlink_metadata(folder)?;
        if !known.is_dir() || known.uid() != user || known.mode() & 0o022 != 0 {
            return Err(io::Error::other("others may write there"));
        }
        let mut hash = DefaultHasher::new();
        library.hash(&mut hash);
        let path = folder.join(format!("libcrore-{:016x}.so", hash.finish()));
        if !has(&path, library) {
            let fresh = folder.join(format!("unpacking-{}", std::process::id()));
            let _ = fs::remove_file(&fresh);
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(library)?;
            drop(file);
            fs::rename(&fresh, &path)?;
        }
        Ok(path)
    }
}
