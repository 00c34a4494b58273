//! The seam between std and what runs models, as far as `sys` needs it: atomics, and
//! statics of the process. All else is in the shim, which stands above `sys`.

#[cfg(any(loom, shuttle))]
pub(crate) use model::*;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::atomic;

/// Defines a static that has atomics or locks inside. In models each execution has one of
/// its own.
macro_rules! process_static {
    (static $name:ident: $type:ty = $value:expr;) => {
        #[cfg(not(any(loom, shuttle)))]
        static $name: $type = $value;

        #[cfg(loom)]
        loom::lazy_static! { static ref $name: $type = $value; }

        #[cfg(shuttle)]
        shuttle::lazy_static! { static ref $name: $type = $value; }
    };
}
pub(crate) use process_static;

/// Defines a table by descriptor number. In models each execution has one of its own, of
/// a few numbers.
macro_rules! per_fd_static {
    (static $name:ident: $table:ident<$cell:ty>;) => {
        #[cfg(not(any(loom, shuttle)))]
        static $name: $table<$cell> = $table::new();

        #[cfg(any(loom, shuttle))]
        static $name: crate::seam::FewFds<$cell> = {
            const _: Option<$table<$cell>> = None;
            crate::seam::process_static! {
                static CELLS: [$cell; crate::seam::FEW] = Default::default();
            }
            crate::seam::FewFds::new(|| &CELLS)
        };
    };
}
pub(crate) use per_fd_static;

#[cfg(any(loom, shuttle))]
mod model {
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic;
    #[cfg(shuttle)]
    pub(crate) use shuttle::sync::atomic;
    use std::os::fd::RawFd;

    /// How many descriptor numbers models have.
    pub(crate) const FEW: usize = 3;
    /// The first of them; tests have others open.
    pub(crate) const FIRST: RawFd = 1000;

    /// A table (`sys/per_fd.rs`) that has the [`FEW`] alone: hooks that the tests' own
    /// calls come through find no cell, and touch nothing of a model's.
    pub(crate) struct FewFds<T: 'static> {
        cells: fn() -> &'static [T; FEW],
    }

    impl<T> FewFds<T> {
        pub(crate) const fn new(cells: fn() -> &'static [T; FEW]) -> Self {
            Self { cells }
        }

        pub(crate) fn get(&self, fd: RawFd) -> Option<&'static T> {
            let index = usize::try_from(fd.checked_sub(FIRST)?).ok()?;
            (index < FEW).then(|| &(self.cells)()[index])
        }

        pub(crate) fn get_or_grow(&self, fd: RawFd) -> Option<&'static T> {
            self.get(fd)
        }

        pub(crate) fn range(
            &self,
            first: u32,
            last: u32,
        ) -> impl Iterator<Item = (RawFd, &'static T)> {
            let numbers = FIRST..FIRST + FEW as RawFd;
            let inside = numbers.filter(move |&fd| (first..=last).contains(&(fd as u32)));
            inside.filter_map(|fd| Some((fd, self.get(fd)?)))
        }
    }
}
