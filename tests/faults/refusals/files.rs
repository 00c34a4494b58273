//! Files whose reads and writes the kernel does not take in one go.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::sync::Arc;

use super::seccomp::{Rule, When, always, refuse};
use super::succeeds;

/// A file that is gone when it is closed.
pub(super) fn file() -> File {
    let path = std::env::temp_dir().join(format!("crore-refusals-{}", std::process::id()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    fs::remove_file(path).unwrap();
    file
}

/// Several coroutines read whole records through one descriptor, and another
/// through a duplicate: as threads would, each gets whole ones, and each record
/// comes once, although each takes several pieces with a park in between.
#[test]
fn reads_of_a_cold_file_are_not_mixed() {
    const RECORD: usize = 600 << 10;
    const RECORDS: usize = 12;
    succeeds("files::reads_of_a_cold_file_are_not_mixed", || {
        crore::run(|| {
            let mut file = file();
            for record in 0..RECORDS {
                file.write_all(&vec![record as u8; RECORD]).unwrap();
            }
            std::io::Seek::rewind(&mut file).unwrap();
            // Nothing is in memory, says the kernel.
            refuse(&[Rule {
                call: libc::SYS_preadv2,
                when: When::Is(5, libc::RWF_NOWAIT as u32),
                error: libc::EAGAIN,
            }]);
            let duplicate = Arc::new(file.try_clone().unwrap());
            let file = Arc::new(file);
            let readers: Vec<_> = [&file, &file, &duplicate, &file]
                .map(Arc::clone)
                .into_iter()
                .map(|file| {
                    crore::spawn(move || {
                        let (mut seen, mut buffer) = (Vec::new(), vec![0; RECORD]);
                        loop {
                            match (&*file).read(&mut buffer).unwrap() {
                                0 => return seen,
                                read => assert_eq!(read, RECORD),
                            }
                            assert!(buffer.iter().all(|byte| *byte == buffer[0]), "mixed");
                            seen.push(buffer[0] as usize);
                        }
                    })
                })
                .collect();
            // Files do not fail by it, nor does waiting for a turn.
            crore::yield_now();
            readers.iter().for_each(|reader| reader.cancel());
            let mut seen: Vec<_> = readers
                .into_iter()
                .flat_map(|reader| reader.join().unwrap())
                .collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..RECORDS));
        })
        .unwrap();
    });
}

/// What may come in pieces comes between the pieces of others.
#[test]
fn a_write_to_a_file_is_one_call() {
    succeeds("files::a_write_to_a_file_is_one_call", || {
        crore::run(|| {
            refuse(&[always(libc::SYS_pwritev2, libc::EIO)]);
            let mut file = file();
            for _ in 0..3 {
                assert_eq!(file.write(&[7; 1 << 20]).unwrap(), 1 << 20);
            }
        })
        .unwrap();
    });
}
