//! The cell of what one thread at a time may touch: std's, with loom's access functions.
//! Under shuttle it looks whether two touch it at a time.

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct UnsafeCell<T> {
    value: std::cell::UnsafeCell<T>,
    /// How many read it; less than none: one writes it.
    #[cfg(all(test, shuttle))]
    users: shuttle::sync::atomic::AtomicIsize,
}

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            value: std::cell::UnsafeCell::new(value),
            #[cfg(all(test, shuttle))]
            users: shuttle::sync::atomic::AtomicIsize::new(0),
        }
    }

    pub(crate) fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// Calls `f` with a pointer that is good for reading.
    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        #[cfg(all(test, shuttle))]
        let _using = Using::begin(&self.users, 1);
        f(self.value.get())
    }

    /// Calls `f` with a pointer that is good for writing.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(all(test, shuttle))]
        let _using = Using::begin(&self.users, isize::MIN);
        f(self.value.get())
    }
}

/// Uses a cell while it lives; other threads have a turn before and after.
#[cfg(all(test, shuttle))]
struct Using<'a> {
    users: &'a shuttle::sync::atomic::AtomicIsize,
    weight: isize,
}

#[cfg(all(test, shuttle))]
impl<'a> Using<'a> {
    fn begin(users: &'a shuttle::sync::atomic::AtomicIsize, weight: isize) -> Self {
        let others = users.fetch_add(weight, std::sync::atomic::Ordering::SeqCst);
        let alone = others == 0 || others > 0 && weight > 0;
        assert!(alone, "two use a cell at a time, and one writes");
        Self { users, weight }
    }
}

#[cfg(all(test, shuttle))]
impl Drop for Using<'_> {
    fn drop(&mut self) {
        let order = std::sync::atomic::Ordering::SeqCst;
        self.users.fetch_sub(self.weight, order);
    }
}
