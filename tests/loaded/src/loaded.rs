// Loaded by c/dlopen-cdylib.c with dlopen: accept blocked the thread, deadlock, nothing said. With the cure in
// build.rs it works; without it (examples/unbound.rs) building the runtime is an error that names the cure.

use std::io::{Read, Write};
use std::net::*;

#[unsafe(no_mangle)]
pub extern "C" fn go(tls: i32) -> i32 {
    let r = match crore::Runtime::builder()
        .own_thread_locals(tls != 0)
        .build()
    {
        Ok(r) => r,
        Err(e) => {
            eprintln!("build: {e}");
            return -1;
        }
    };
    r.run(|| {
        let l = TcpListener::bind("127.0.0.1:0").unwrap();
        let a = l.local_addr().unwrap();
        crore::spawn(move || {
            for s in l.incoming().take(20) {
                let mut s = s.unwrap();
                crore::spawn(move || {
                    let mut b = [0; 64];
                    loop {
                        let n = s.read(&mut b).unwrap();
                        if n == 0 {
                            break;
                        }
                        s.write_all(&b[..n]).unwrap();
                    }
                });
            }
        });
        let hs: Vec<_> = (0..20u8)
            .map(|i| {
                crore::spawn(move || {
                    let mut s = TcpStream::connect(a).unwrap();
                    s.write_all(&[i; 8]).unwrap();
                    let mut b = [0; 8];
                    s.read_exact(&mut b).unwrap();
                    b[3] as i32
                })
            })
            .collect();
        let t = std::time::Instant::now();
        let z: Vec<_> = (0..20)
            .map(|_| crore::spawn(|| std::thread::sleep(std::time::Duration::from_millis(100))))
            .collect();
        for z in z {
            z.join().unwrap();
        }
        eprintln!("20 sleeps of 0.1 s: {:?}", t.elapsed());
        hs.into_iter().map(|h| h.join().unwrap()).sum::<i32>()
    })
    .unwrap()
}

/// Waits in a coroutine for what the program posts, which does not call us for that.
///
/// # Safety
///
/// - A semaphore that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait_for(sem: *mut libc::sem_t) -> i32 {
    let runtime = crore::Runtime::builder().build().unwrap();
    // SAFETY: the caller's semaphore.
    runtime.run(|| unsafe { libc::sem_wait(sem) }).unwrap()
}
