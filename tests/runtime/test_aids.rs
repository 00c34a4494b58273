//! `crore::test`: a test that would hang fails, and says where it was.

use std::panic::catch_unwind;
use std::time::Duration;

use crate::common::{in_child, stderr};

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn what_ends_in_time_is_returned_and_a_panic_is_its_own() {
    assert_eq!(
        crore::test::run(LONG, || crore::spawn(|| 7).join().unwrap()),
        7
    );
    let panic = catch_unwind(|| crore::test::run(LONG, || panic!("of the test")));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"of the test"));
}

#[test]
fn one_that_waits_for_ever_fails_and_is_dumped() {
    let output = in_child("one_that_waits_for_ever_fails_and_is_dumped", || {
        let late = catch_unwind(|| {
            crore::test::run(Duration::from_millis(20), || {
                let (_tx, rx) = crore::sync::channel::bounded::<u32>(1);
                let stuck = crore::Builder::new().name("stuck".into());
                stuck.spawn(move || rx.recv()).unwrap().join().unwrap()
            })
        });
        let why = late.unwrap_err();
        assert!(
            why.downcast_ref::<String>()
                .unwrap()
                .contains("took longer")
        );
    });
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("'stuck'") && said.contains("'main'"),
        "{said}"
    );
    assert!(said.contains("test_aids"), "no backtrace in {said}");
}
