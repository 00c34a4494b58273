//! Random operations against naive models, for `cargo fuzz` and `cargo test`
//! alike.
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run wheel -- -max_len=256
//! RUSTC_BOOTSTRAP=1 cargo fuzz run reactor -- -max_len=512
//! ```
//!
//! The wheel runs beside a sorted map; the reactor on files in memory, which
//! say who may wait. How an input is read is in `util/fuzz.rs`.

mod reactor;
mod wheel;

pub(crate) use self::reactor::run as reactor;
pub(crate) use self::wheel::run as wheel;

#[cfg(test)]
pub(super) use self::{
    reactor::{Bell, bell},
    wheel::WheelPair,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::fuzz::{corpus, seeds};

    #[test]
    fn the_wheel_equals_a_sorted_map_on_random_operations() {
        seeds(wheel);
    }

    #[test]
    fn the_reactor_keeps_its_promises_on_random_operations() {
        seeds(reactor);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn the_wheel_equals_a_sorted_map_on_the_corpus() {
        corpus("wheel", wheel);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn the_reactor_keeps_its_promises_on_the_corpus() {
        corpus("reactor", reactor);
    }
}
