//! Time: [`sleep`], [`timeout`], [`interval`]; and the waits beside them that
//! [`std::thread`] has (`yield_now`, `park`), which are at the crate's root.
//!
//! ```
//! use crore::time::{interval, timeout};
//! use std::time::Duration;
//!
//! crore::run(|| {
//!     let mut beat = interval(Duration::from_millis(2));
//!     let beats = timeout(Duration::from_secs(1), || {
//!         (0..3).map(|_| beat.tick()).collect::<Vec<_>>()
//!     })
//!     .unwrap();
//!     assert_eq!(beats.len(), 3);
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod interval;
pub(crate) mod timeout;
pub(crate) mod wait;

pub use interval::{Interval, interval};
pub use timeout::{Elapsed, deadline, timeout, timeout_at};
pub use wait::{sleep, sleep_until};
