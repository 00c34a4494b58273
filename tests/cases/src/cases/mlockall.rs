//! `mlockall(MCL_CURRENT | MCL_FUTURE)` before `run`. All address space that was reserved for
//! stacks was filled with locked memory. Right: what is used is. (Limited to 3 GiB here.)

fn say(what: &str) {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    println!(
        "{what}: {}",
        s.lines()
            .filter(|l| l.starts_with("VmLck") || l.starts_with("VmHWM"))
            .collect::<Vec<_>>()
            .join(", ")
    )
}
pub(crate) fn main() {
    let limit = libc::rlimit {
        rlim_cur: 3 << 30,
        rlim_max: 3 << 30,
    };
    unsafe {
        libc::setrlimit(libc::RLIMIT_AS, &limit);
        assert_eq!(libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE), 0);
    }
    let t = std::time::Instant::now();
    std::thread::spawn(|| ()).join().unwrap();
    say("a thread ran");
    std::thread::spawn(|| {
        std::thread::sleep(std::time::Duration::from_secs(4));
        say("4 s later");
        unsafe { libc::_exit(3) }
    });
    crore::run(|| say("in run")).unwrap();
    println!("{:?}", t.elapsed());
}
