//! Libraries with thread-locals that are loaded while coroutines with
//! thread-locals of their own exist; and many such coroutines.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use crate::common;
use std::ffi::{CStr, CString, c_int, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crore::{Builder, JoinHandle};

fn own<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().own_thread_locals(true).spawn(f).unwrap()
}

/// A C library with thread-locals that have first values: `next()` counts up
/// from 1000, `sum()` adds up an array of 64 that begins with 1, 2, 3.
const SOURCE: &str = "
    static _Thread_local int count = 1000;
    static _Thread_local int numbers[64] = { 1, 2, 3 };
    int next(void) { return count++; }
    int sum(void) { int s = 0; for (int i = 0; i < 64; i++) s += numbers[i]++; return s; }
";

/// Compiles the library with the C compiler that links Rust programs.
fn compile(model: &str) -> PathBuf {
    let at = std::env::temp_dir().join(format!("crore-{}-{model}", std::process::id()));
    std::fs::create_dir_all(&at).unwrap();
    let (source, library) = (at.join("library.c"), at.join("library.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let output = common::c_compiler()
        .args([
            "-shared",
            "-fPIC",
            "-O1",
            &format!("-ftls-model={model}"),
            "-o",
        ])
        .args([&library, &source])
        .output()
        .expect("a C compiler, as the linker of Rust programs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    library
}

#[derive(Clone, Copy)]
struct Library {
    handle: usize,
    next: unsafe extern "C" fn() -> c_int,
    sum: unsafe extern "C" fn() -> c_int,
}

impl Library {
    fn load(path: &std::path::Path) -> Self {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a library without constructors; its functions as above.
        unsafe {
            let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
            if handle.is_null() {
                panic!("{:?}", CStr::from_ptr(libc::dlerror()));
            }
            let find = |name: &CStr| {
                let at = libc::dlsym(handle, name.as_ptr());
                assert!(!at.is_null());
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(at)
            };
            Self {
                handle: handle as usize,
                next: find(c"next"),
                sum: find(c"sum"),
            }
        }
    }

    /// Uses it as who has never used it.
    fn first_use(self) {
        // SAFETY: the library is loaded.
        unsafe {
            assert_eq!(((self.sum)(), (self.sum)()), (6, 70));
            assert_eq!(((self.next)(), (self.next)()), (1000, 1001));
        }
    }

    /// And again.
    fn second_use(self) {
        // SAFETY: the library is loaded.
        assert_eq!(unsafe { ((self.next)(), (self.sum)()) }, (1002, 134));
    }

    fn unload(self) {
        // SAFETY: loaded once; nobody uses it any more.
        assert_eq!(unsafe { libc::dlclose(self.handle as *mut c_void) }, 0);
    }
}

/// A library is loaded by a coroutine, or by a thread, while others are
/// parked; all use it, those that come later, too; then it goes, and comes
/// back.
fn comes_and_goes(path: &std::path::Path, loader: fn(PathBuf) -> Library) {
    crore::run(|| {
        // Blocks that have been used, and wait to be used again.
        let former: Vec<_> = (0..20).map(|_| own(crore::yield_now)).collect();
        former.into_iter().for_each(|one| one.join().unwrap());
        for _ in 0..3 {
            let (sender, receiver) = crore::sync::channel::bounded::<Library>(0);
            let parked: Vec<_> = (0..10)
                .map(|_| {
                    let receiver = receiver.clone();
                    own(move || {
                        let library = receiver.recv().unwrap();
                        library.first_use();
                        crore::yield_now();
                        library.second_use();
                    })
                })
                .collect();
            crore::yield_now();
            let library = loader(path.to_owned());
            library.first_use();
            for _ in 0..10 {
                sender.send(library).unwrap();
            }
            let later: Vec<_> = (0..30)
                .map(|_| {
                    own(move || {
                        library.first_use();
                        crore::yield_now();
                        library.second_use();
                    })
                })
                .collect();
            parked
                .into_iter()
                .chain(later)
                .for_each(|one| one.join().unwrap());
            library.second_use();
            library.unload();
        }
    })
    .unwrap();
}

#[test]
fn a_library_with_dynamic_thread_locals() {
    let path = compile("global-dynamic");
    comes_and_goes(&path, |path| {
        own(move || Library::load(&path)).join().unwrap()
    });
    comes_and_goes(&path, |path| Library::load(&path));
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

/// The hard case: glibc finds room in the blocks that exist, and must write the
/// first values into every one of them.
#[test]
fn a_library_with_static_thread_locals() {
    let path = compile("initial-exec");
    comes_and_goes(&path, |path| {
        own(move || Library::load(&path)).join().unwrap()
    });
    comes_and_goes(&path, |path| {
        std::thread::spawn(move || Library::load(&path))
            .join()
            .unwrap()
    });
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    common::kilobytes("VmRSS") << 10
}

static USED: AtomicU64 = AtomicU64::new(0);

/// What a coroutine may leave behind: a value of a thread-local and of a key,
/// an error of the linker, a name of an error, memory of the heap's caches.
fn use_everything() {
    struct Counts(#[allow(dead_code)] Vec<u8>);
    impl Drop for Counts {
        fn drop(&mut self) {
            USED.fetch_add(1, Ordering::Relaxed);
        }
    }
    thread_local!(static COUNTS: Counts = Counts(vec![1; 700]));
    COUNTS.with(|_| ());
    // SAFETY: valid names; the strings are not kept.
    unsafe {
        libc::dlsym(libc::RTLD_DEFAULT, c"no such symbol".as_ptr());
        std::hint::black_box(libc::strerror(123_456));
    }
    assert!(std::thread::current().name().is_none());
}

#[test]
fn a_million_leave_nothing_behind() {
    // In a process of its own: other tests use and free memory meanwhile.
    let output = common::in_child("a_million_leave_nothing_behind", || {
        let total: u64 = if cfg!(debug_assertions) {
            200_000
        } else {
            1_000_000
        };
        crore::run(|| {
            let batch = |n: u64| {
                let all: Vec<_> = (0..n)
                    .map(|_| {
                        own(|| {
                            use_everything();
                            crore::yield_now();
                        })
                    })
                    .collect();
                all.into_iter().for_each(|one| one.join().unwrap());
            };
            // More than the pool keeps, so that blocks are also freed and made.
            for _ in 0..4 {
                batch(10_000);
            }
            let before = resident();
            for _ in 0..total / 10_000 {
                batch(10_000);
            }
            let grown = resident().saturating_sub(before);
            assert_eq!(USED.load(Ordering::Relaxed), total + 40_000);
            // 20 bytes a coroutine would be more.
            assert!(
                grown < 4 << 20,
                "{grown} bytes more after {total} coroutines"
            );
        })
        .unwrap();
    });
    assert!(output.status.success(), "{}", common::stderr(&output));
}

#[test]
fn many_at_a_time_take_five_kilobytes_each() {
    const MANY: u64 = 20_000;
    let bytes = |yes: bool| {
        std::thread::spawn(move || {
            crore::run(|| {
                let before = resident();
                let all: Vec<_> = (0..MANY)
                    .map(|_| {
                        let builder = Builder::new().own_thread_locals(yes);
                        builder.spawn(crore::park).unwrap()
                    })
                    .collect();
                crore::yield_now();
                let taken = resident() - before;
                for one in all {
                    one.coroutine().unpark();
                    one.join().unwrap();
                }
                taken / MANY
            })
            .unwrap()
        })
        .join()
        .unwrap()
    };
    // In a process of its own: others would use and free memory meanwhile.
    let output = common::in_child("many_at_a_time_take_five_kilobytes_each", || {
        let (with, without) = (bytes(true), bytes(false));
        assert!(
            with <= without + 6200,
            "{with} bytes with, {without} without"
        );
    });
    assert!(output.status.success(), "{}", common::stderr(&output));
}
