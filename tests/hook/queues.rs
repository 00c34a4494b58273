//! The rows of the hooks' table about message queues and semaphores between
//! processes.

use std::ffi::{CString, c_int};

use libc::{mqd_t, sembuf, timespec};

use crate::hook_common::{in_coroutines, said, same};

unsafe extern "C" {
    fn semtimedop(set: c_int, all: *mut sembuf, count: usize, time: *const timespec) -> c_int;
}

/// A queue of POSIX with room for one message of eight bytes.
fn queue(flags: c_int) -> mqd_t {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = CString::new(format!("/crore-{}-{count}", std::process::id())).unwrap();
    // SAFETY: a name and attributes that live across the calls.
    unsafe {
        let mut attributes: libc::mq_attr = std::mem::zeroed();
        attributes.mq_maxmsg = 1;
        attributes.mq_msgsize = 8;
        let access = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | flags;
        let queue = libc::mq_open(name.as_ptr(), access, 0o600, &attributes);
        assert!(queue >= 0, "{}", std::io::Error::last_os_error());
        libc::mq_unlink(name.as_ptr());
        queue
    }
}

fn send(queue: mqd_t, text: &str) -> Result<usize, i32> {
    // SAFETY: a text of that length.
    said(unsafe { libc::mq_send(queue, text.as_ptr().cast(), text.len(), 3) } as isize)
}

fn receive(queue: mqd_t) -> Result<String, i32> {
    let (mut text, mut priority) = ([0_u8; 8], 0);
    // SAFETY: places.
    let len = said(unsafe { libc::mq_receive(queue, text.as_mut_ptr().cast(), 8, &mut priority) })?;
    assert_eq!(priority, 3);
    Ok(String::from_utf8(text[..len].to_vec()).unwrap())
}

fn in_millis(millis: i64) -> timespec {
    let mut now = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut now) };
    now.tv_nsec += millis * 1_000_000;
    now.tv_sec += now.tv_nsec.div_euclid(1_000_000_000);
    now.tv_nsec = now.tv_nsec.rem_euclid(1_000_000_000);
    now
}

#[test]
fn queues_of_posix() {
    same(|on| {
        let both = queue(0);
        let mut out = Vec::new();
        let sender = on.go(move || send(both, "first"));
        out.push((receive(both), sender.join()));
        out.push((Ok(String::new()), send(both, "second")));
        let receiver = on.go(move || receive(both));
        let third = send(both, "third");
        out.push((receiver.join(), third));
        let mut place = [0_u8; 8];
        let (bytes, text) = (place.as_mut_ptr().cast(), c"late".as_ptr());
        let bad = timespec {
            tv_sec: 0,
            tv_nsec: -1,
        };
        // SAFETY: places, texts and times that live across the calls.
        unsafe {
            let soon = in_millis(30);
            out.push((
                Ok(String::new()),
                said(libc::mq_timedsend(both, text, 4, 0, &soon) as isize),
            ));
            out.push((
                Ok(String::new()),
                said(libc::mq_timedsend(both, text, 4, 0, &bad) as isize),
            ));
            out.push((receive(both), Ok(0)));
            let none = std::ptr::null_mut();
            for time in [in_millis(30), in_millis(-30), bad] {
                let received = said(libc::mq_timedreceive(both, bytes, 8, none, &time));
                out.push((Ok(String::new()), received));
            }
            out.push((
                Ok(String::new()),
                said(libc::mq_receive(both, bytes, 7, none)),
            ));
            out.push((
                Ok(String::new()),
                said(libc::mq_receive(-1, bytes, 8, none)),
            ));
            out.push((Ok(String::new()), send(both, "far too long")));
            libc::mq_close(both);
        }
        let never_waits = queue(libc::O_NONBLOCK);
        out.push((receive(never_waits), send(never_waits, "one")));
        out.push((Ok(String::new()), send(never_waits, "two")));
        // SAFETY: ours.
        unsafe { libc::mq_close(never_waits) };
        out
    });
}

#[repr(C)]
struct Message {
    kind: libc::c_long,
    text: [u8; 8],
}

#[test]
fn messages_of_system_v() {
    same(|on| {
        // SAFETY: no pointers.
        let queue = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
        let send = move |kind, flags| {
            let message = Message {
                kind,
                text: *b"message.",
            };
            // SAFETY: a message of that length.
            said(unsafe { libc::msgsnd(queue, (&raw const message).cast(), 8, flags) } as isize)
        };
        let receive = move |kind, len, flags| {
            let mut message = Message {
                kind: 0,
                text: [0; 8],
            };
            // SAFETY: a place with that room.
            let got = unsafe { libc::msgrcv(queue, (&raw mut message).cast(), len, kind, flags) };
            (said(got), message.kind, message.text)
        };
        let mut out = vec![receive(0, 8, libc::IPC_NOWAIT)];
        let sender = on.go(move || (send(5, 0), send(7, 0)));
        out.push(receive(7, 8, 0));
        let sent = sender.join();
        out.push(receive(0, 3, 0));
        out.push(receive(0, 3, libc::MSG_NOERROR));
        // Full, until one is taken.
        // SAFETY: a place, and what was there with less room.
        unsafe {
            let mut state: libc::msqid_ds = std::mem::zeroed();
            libc::msgctl(queue, libc::IPC_STAT, &mut state);
            state.msg_qbytes = 8;
            libc::msgctl(queue, libc::IPC_SET, &mut state);
        }
        let full = (send(1, 0), send(2, libc::IPC_NOWAIT));
        let receiver = on.go(move || receive(1, 8, 0));
        let then = send(2, 0);
        out.push(receiver.join());
        let invalid = (send(0, 0), receive(0, usize::MAX, 0).0);
        // What goes away under one that waits, and for one that comes.
        let waits = on.go(move || receive(9, 8, 0).0);
        // SAFETY: no pointers.
        let remover = on.go(move || unsafe {
            libc::usleep(20_000);
            libc::msgctl(queue, libc::IPC_RMID, std::ptr::null_mut())
        });
        let gone = (waits.join(), remover.join(), receive(9, 8, 0).0);
        (out, sent, full, then, invalid, gone)
    });
}

#[test]
fn semaphores_of_system_v() {
    same(|on| {
        // SAFETY: no pointers.
        let set = unsafe { libc::semget(libc::IPC_PRIVATE, 2, 0o600) };
        let add = move |by: i16, flags: c_int| {
            let mut one = sembuf {
                sem_num: 1,
                sem_op: by,
                sem_flg: flags as i16,
            };
            // SAFETY: one operation.
            said(unsafe { libc::semop(set, &mut one, 1) } as isize)
        };
        let mut out = vec![add(-1, libc::IPC_NOWAIT)];
        let giver = on.go(move || add(2, 0));
        out.push(add(-2, 0));
        out.push(giver.join());
        let mut two = [(1, -1), (0, 0)].map(|(sem_num, sem_op)| sembuf {
            sem_num,
            sem_op,
            sem_flg: 0,
        });
        let time = |tv_nsec| timespec { tv_sec: 0, tv_nsec };
        let mut timed = |count, nanos| {
            // SAFETY: two operations, a time.
            said(unsafe { semtimedop(set, two.as_mut_ptr(), count, &time(nanos)) } as isize)
        };
        out.push(timed(2, 30_000_000));
        out.push(timed(2, -1));
        out.push(timed(0, 1));
        let giver = on.go(move || add(1, 0));
        out.push(timed(2, 900_000_000));
        out.push(giver.join());
        // SAFETY: no operations at all.
        out.push(said(
            unsafe { libc::semop(set, std::ptr::null_mut(), 1) } as isize
        ));
        let waits = on.go(move || add(-1, 0));
        // SAFETY: no pointers.
        let remover = on.go(move || unsafe {
            libc::usleep(20_000);
            libc::semctl(set, 0, libc::IPC_RMID)
        });
        out.extend([waits.join(), Ok(remover.join() as usize), add(1, 0)]);
        out
    });
}

#[test]
fn a_cancelled_wait_takes_nothing() {
    in_coroutines(|_| {
        // SAFETY: no pointers.
        let old = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
        let new = queue(0);
        let waits = [
            crore::spawn(move || {
                let mut place = [0_u64; 4];
                // SAFETY: a place with that room.
                said(unsafe { libc::msgrcv(old, place.as_mut_ptr().cast(), 8, 0, 0) })
            }),
            crore::spawn(move || receive(new).map(|text| text.len())),
        ];
        crore::yield_now();
        for one in waits {
            one.cancel();
            assert_eq!(one.join().unwrap(), Err(libc::ECANCELED));
        }
        assert_eq!(send(new, "stays"), Ok(0));
        assert_eq!(receive(new).as_deref(), Ok("stays"));
        // SAFETY: ours.
        unsafe {
            libc::mq_close(new);
            libc::msgctl(old, libc::IPC_RMID, std::ptr::null_mut());
        }
    });
}
