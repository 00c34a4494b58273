//! The promise: each of these programs, which once aborted, hung, starved others
//! or lied, does what the same code does on threads. Every case runs in a
//! process of its own; what it prints and how it ends is looked at here.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a case said and how it ended.
struct Said {
    text: String,
    /// The exit status; `None` after a signal.
    status: Option<i32>,
}

/// No case takes this long, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(case: &str, args: &[&str]) -> Said {
    let folder = std::env::temp_dir().join(format!("crore-case-{case}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let output = folder.join("output");
    let file = || {
        let mut options = std::fs::File::options();
        options.append(true).create(true).open(&output).unwrap()
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_crore-cases"))
        .args(args)
        .env("CRORE_CASE", case)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(file())
        .stderr(file())
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            break child.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = std::fs::read_to_string(&output).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    Said {
        text,
        status: status.code(),
    }
}

/// Runs a case that has to end with status 0, without a fault or a panic.
fn fine(case: &str, args: &[&str]) -> String {
    let said = run(case, args);
    let bad = ["FAULT", "panicked at"]
        .iter()
        .any(|word| said.text.contains(word));
    assert!(
        said.status == Some(0) && !bad,
        "{case} {args:?}: status {:?}\n{}",
        said.status,
        said.text
    );
    said.text
}

/// As [`fine`], and all of `wanted` are said.
fn says(case: &str, args: &[&str], wanted: &[&str]) {
    let text = fine(case, args);
    for words in wanted {
        assert!(
            text.contains(words),
            "{case} {args:?}: no {words:?} in\n{text}"
        );
    }
}

/// The first number behind `label`.
fn number(text: &str, label: &str) -> f64 {
    let (_, rest) = text
        .split_once(label)
        .unwrap_or_else(|| panic!("no {label:?} in\n{text}"));
    let digits = rest.trim_start();
    let end = digits
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(digits.len());
    digits[..end].parse().unwrap()
}

/// The first time behind `label`, as `Duration` prints itself.
fn millis(text: &str, label: &str) -> f64 {
    let number = number(text, label);
    let (_, rest) = text.split_once(label).unwrap();
    let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let units = [("ns", 1e-6), ("µs", 1e-3), ("ms", 1.0), ("s", 1e3)];
    let (_, each) = units
        .iter()
        .find(|(name, _)| unit.starts_with(name))
        .unwrap_or_else(|| panic!("no time behind {label:?} in\n{text}"));
    number * each
}

#[test]
fn times_are_read_with_their_units() {
    let text = "a 1.5s b 2ms, c 30.25µs; d 7ns";
    for (label, expected) in [("a ", 1500.0), ("b ", 2.0), ("c ", 0.03025), ("d ", 7e-6)] {
        assert_eq!(millis(text, label), expected, "{label}");
    }
}

#[test]
fn a_cancellation_below_a_c_callback_does_not_abort() {
    says("cancel-c-callback", &[], &["OK"]);
}

#[test]
fn a_foreign_event_loop_waits_on() {
    for how in [
        &["timeout"][..],
        &["timeout", "guard"],
        &["cancel"],
        &["cancel", "guard"],
    ] {
        says("cancel-foreign-loop", how, &["run: Ok"]);
    }
}

#[test]
fn a_goodbye_arrives_and_a_drain_ends_with_the_connections() {
    let text = fine("cancel-goodbye", &[]);
    let (cancelled, asked) = text.split_once("token: ").unwrap();
    // The hard way: what waits fails.
    assert!(cancelled.contains("peer got \"\""), "{text}");
    assert!(
        asked.contains("goodbye Ok(())") && asked.contains("peer got \"BYE\""),
        "{text}"
    );
    assert_eq!(text.matches("no grace").count(), 2, "{text}");
}

#[test]
fn a_cancelled_join_of_a_thread_parks_on() {
    says("cancel-thread-join", &[], &["OK"]);
}

#[test]
fn exceptions_of_cxx_are_a_coroutines_own() {
    let text = fine("cxx-exceptions", &[]);
    let own = "own thread-locals true: A threw 1, got 1; B threw 2, got 2";
    assert!(text.contains(own), "{text}");
    assert!(
        text.contains("own thread-locals true: B's exception reads bbbb"),
        "{text}"
    );
}

#[test]
fn the_second_exit_waits_for_the_first() {
    for kind in [&[][..], &["tls"], &["thread"]] {
        let said = run("exit-twice", kind);
        assert_eq!(said.status, Some(5), "{kind:?}\n{}", said.text);
    }
}

#[test]
fn direct_io_takes_the_callers_buffer() {
    let text = fine("files-o-direct", &[]);
    let of = |who: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(who).map(str::trim))
            .unwrap_or_else(|| panic!("no {who} in\n{text}"))
    };
    // Where the file system has no O_DIRECT the thread says so, too.
    assert_eq!(of("thread:"), of("coroutine:"), "{text}");
}

#[test]
fn the_lock_of_a_file_excludes_coroutines() {
    for kind in [&[][..], &["own"]] {
        says("flockfile", kind, &["coroutines: two inside 0 times"]);
    }
}

#[test]
fn rounding_is_a_coroutines_own() {
    let text = fine("fpu-control", &[]);
    let own = text
        .lines()
        .find(|line| line.starts_with("own thread-locals true"))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(own.contains("has 4000 after a sleep"), "{text}");
    assert!(own.contains("has 0, 1/3 = 3fd5555555555555"), "{text}");
}

#[test]
fn unparking_ten_million_times_takes_no_memory() {
    let text = fine("grow-unpark", &[]);
    let [before, after] = ["before VmRSS:", "long after VmRSS:"].map(|label| number(&text, label));
    // The watchdog reads symbols to say who computes; messages were hundreds of megabytes.
    assert!(after < before + 30_000.0, "{text}");
}

#[test]
fn a_large_frame_of_c_does_not_step_over_the_guard() {
    let said = run("guard-stepped-over", &[]);
    // The overflow ends the process, as on a thread.
    let reported = said.text.contains("overflow") && !said.text.contains("FAULT");
    assert!(
        reported && said.status != Some(0),
        "{:?}\n{}",
        said.status,
        said.text
    );
}

#[test]
fn look_ups_have_threads_of_their_own() {
    says("helpers-deadlock", &[], &["fine"]);
}

#[test]
fn a_nap_beside_calls_that_are_always_ready_is_not_late() {
    let text = fine("latency-always-ready", &[]);
    assert_eq!(text.lines().count(), 4, "{text}");
    for line in text.lines() {
        // Processor time, so that load does not matter.
        assert!(millis(line, "a nap of 1 ms takes ") <= 2.0, "{text}");
    }
}

#[test]
fn a_close_that_lingers_stops_nobody() {
    let text = fine("linger-close", &[]);
    // It lingers for two seconds.
    assert!(millis(&text, "stopped for ") < 1000.0, "{text}");
}

#[test]
fn locked_memory_is_not_filled() {
    let text = fine("mlockall", &[]);
    let (_, run) = text.split_once("in run:").unwrap();
    assert!(number(run, "VmHWM:") < 100_000.0, "{text}");
}

#[test]
fn who_was_deep_and_waits_keeps_a_page() {
    let text = fine("stack-stays-deep", &[]);
    assert!(number(&text, "at first:") > 40_000.0, "{text}");
    assert!(number(&text, "at last:") < 9_000.0, "{text}");
}

#[test]
fn nothing_is_known_of_a_number_that_begins_unseen() {
    says("number-reused", &[], &["WouldBlock", "Ok((8, 7,"]);
}

#[test]
fn urgent_data_is_waited_for_without_ticks() {
    let text = fine("poll-pri-idle", &[]);
    // Processor time; ticks every 5 ms took most of the three seconds.
    assert!(millis(&text, "POLLIN | POLLPRI: ") < 10.0, "{text}");
}

#[test]
fn second_stacks_wait_as_elsewhere() {
    says("second-stack-stacker", &[], &["got 7"]);
    let text = fine("second-stack", &[]);
    assert_eq!(text.matches("Ok(5) (want").count(), 2, "{text}");
    let stopped: Vec<_> = text
        .lines()
        .filter(|line| line.contains("stopped another"))
        .collect();
    assert_eq!(stopped.len(), 2, "{text}");
    for line in stopped {
        // The other one sleeps for 300 ms.
        assert!(
            millis(line, "stopped another coroutine for ") < 250.0,
            "{text}"
        );
    }
}

/// 67 million spawns.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes")]
fn an_id_never_comes_back() {
    let text = fine("ids-stale-handle", &[]);
    assert!(text.is_empty(), "{text}");
}

#[test]
fn slots_do_not_come_and_go_at_a_border() {
    let text = fine("scale-slot-border", &[]);
    let [inside, border] = ["inside:", "at the border:"].map(|label| number(&text, label));
    // Processor time; a segment that comes and goes takes 80 µs.
    assert!(border < inside + 40.0, "{text}");
}

#[test]
fn a_forgotten_select_loses_nothing() {
    let text = fine("select-forgotten", &[]);
    assert!(text.contains("recv Err(Disconnected) (should be"), "{text}");
    let lost = text.contains("recv Err(Timeout)") && text.contains("send Ok(()), case None");
    assert!(!lost, "{text}");
}

#[test]
fn a_full_error_queue_is_no_broken_socket() {
    let text = fine("send-error-queue", &[]);
    assert_eq!(text.matches("4194304").count(), 10, "{text}");
}

#[test]
fn the_shutdown_of_a_datagram_socket_ends_waits() {
    let text = fine("shutdown-datagram", &[]);
    assert_eq!(
        text.matches("coroutine's recv: Ok((0,").count(),
        2,
        "{text}"
    );
}

#[test]
fn handlers_may_close_and_duplicate() {
    says("signal-close-idle", &[], &["OK"]);
    says("signal-close-race", &[], &["OK"]);
    says("signal-close-unpark", &[], &["OK"]);
    says("signal-dup2", &[], &["survived"]);
}

#[test]
fn waits_for_nothing_give_way() {
    for wait in ["std", "sleep0", "until", "park", "recv", "acquire", "cond"] {
        says("sleep-nothing", &[wait], &["fine"]);
    }
}

#[test]
fn raw_terminals_are_read_as_by_a_thread() {
    let text = fine("tty-vmin", &[]);
    assert!(!text.contains("Elapsed"), "{text}");
    assert_eq!(text.matches("coroutine: Ok(\"Ok(0)").count(), 2, "{text}");
    assert_eq!(text.matches("coroutine: Ok(\"Ok(1)").count(), 1, "{text}");
    let stopped: Vec<_> = text
        .lines()
        .filter(|line| line.contains("were stopped for"))
        .collect();
    assert_eq!(stopped.len(), 3, "{text}");
    for line in stopped {
        // The last read waits for a second.
        assert!(millis(line, "were stopped for ") < 500.0, "{text}");
    }
}

#[test]
fn large_writes_wait_for_room() {
    for what in ["fifo", "pty", "oldpipe", "oldsocket"] {
        says("write-large-fifo-pty", &[what], &["fine: all"]);
    }
}

#[test]
fn a_jump_out_of_a_handler_returns_or_is_refused() {
    let said = run("siglongjmp", &[]);
    let returned = said.status == Some(0)
        && said.text.contains("timed_read: Ok(-2)")
        && said.text.contains("ends");
    let refused = said.status != Some(0) && said.text.contains("siglongjmp");
    assert!(returned || refused, "{:?}\n{}", said.status, said.text);
}

#[test]
fn plain_threads_have_the_condition_variables_that_they_are_linked_with() {
    let text = fine("glibc-cond", &[]);
    // The functions of another version return at once, or never.
    for (label, least) in [
        ("after 200 ms: notified after ", 200.0),
        ("300 ms: Connection timed out after ", 300.0),
        ("flag 1 Success after ", 200.0),
    ] {
        // They count whole milliseconds.
        assert!(number(&text, label) >= least - 1.0, "{label} in\n{text}");
    }
}

#[test]
fn the_child_of_a_fork_needs_no_memory_for_dup2() {
    says("fork-child-alloc", &[], &["ended"]);
    says("fork-child-alloc", &["after a run"], &["ended"]);
}

#[test]
fn a_builder_is_written_as_stds() {
    says("thread-builder-name", &[], &["OK"]);
}
