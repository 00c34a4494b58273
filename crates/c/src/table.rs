//! Handle tables: objects that C knows by number.
//!
//! A handle is a place in a table and the place's generation, which moves on when the
//! object goes; so a handle that was released finds nothing, however often it is used.
//! Places lie in segments that are never freed: looking up any number is sound.
//!
//! ```text
//!  word of a place:   generation 32 │ dead 1 │ pins 31
//! ```
//!
//! The object is there while there are pins. Its table's own pin goes when it is
//! removed; each call that uses it has another, so it outlives them. Who takes the last
//! one drops the object and begins the next generation.

use std::cell::{RefCell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{Code, Error, Result};

const SEGMENT: usize = 1024;
const SEGMENTS: usize = 1 << 14;
const DEAD: u64 = 1 << 31;
const PINS: u64 = DEAD - 1;
/// Free places that a thread keeps for itself.
const KEPT: usize = 64;

/// All objects of a kind.
pub(crate) struct Table<T: 'static> {
    segments: [AtomicPtr<[Place<T>; SEGMENT]>; SEGMENTS],
    free: Mutex<Free>,
    /// What its objects are called.
    kind: &'static str,
}

struct Free {
    places: Vec<u32>,
    /// Places that exist.
    made: u32,
}

struct Place<T> {
    word: AtomicU64,
    object: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: an object is reached by several threads through `&T` only, and is dropped by
// the one that lets go last.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

/// A use of an object, which it outlives.
pub(crate) struct Pin<'a, T: Object> {
    place: &'a Place<T>,
    index: u32,
}

/// What there is a table of.
pub(crate) trait Object: Send + Sync + Sized + 'static {
    fn table() -> &'static Table<Self>;
    /// Free places of the calling thread.
    fn spare() -> &'static std::thread::LocalKey<Spare<Self>>;
}

/// Gives a type its table.
macro_rules! table {
    ($type:ty, $kind:literal) => {
        impl crate::table::Object for $type {
            fn table() -> &'static crate::table::Table<Self> {
                static TABLE: crate::table::Table<$type> = crate::table::Table::new($kind);
                &TABLE
            }

            fn spare() -> &'static std::thread::LocalKey<crate::table::Spare<Self>> {
                thread_local! {
                    static SPARE: crate::table::Spare<$type> =
                        const { crate::table::Spare::new() };
                }
                &SPARE
            }
        }
    };
}
pub(crate) use table;

/// Free places that a thread keeps; they go back when it ends.
pub(crate) struct Spare<T: Object>(RefCell<Vec<u32>>, std::marker::PhantomData<T>);

impl<T: Object> Spare<T> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Vec::new()), std::marker::PhantomData)
    }
}

impl<T: Object> Drop for Spare<T> {
    fn drop(&mut self) {
        T::table().lock().places.append(self.0.get_mut());
    }
}

impl<T: Object> Table<T> {
    pub(crate) const fn new(kind: &'static str) -> Self {
        Self {
            segments: [const { AtomicPtr::new(ptr::null_mut()) }; SEGMENTS],
            free: Mutex::new(Free {
                places: Vec::new(),
                made: 0,
            }),
            kind,
        }
    }

    /// Keeps an object; its handle, which is never 0.
    pub(crate) fn insert(&self, object: T) -> Result<u64> {
        let spare = T::spare().try_with(|spare| spare.0.borrow_mut().pop());
        let index = match spare {
            Ok(Some(index)) => index,
            _ => self.take_free()?,
        };
        let place = self.place(index).expect("a free place exists");
        // SAFETY: nobody else uses a free place: it is ours since it was taken.
        unsafe { (*place.object.get()).write(object) };
        let generation = place.word.load(Ordering::Relaxed) >> 32;
        place.word.store(generation << 32 | 1, Ordering::Release);
        Ok(generation << 32 | u64::from(index))
    }

    /// The object of a handle.
    pub(crate) fn get(&self, handle: u64) -> Result<Pin<'_, T>> {
        let found = self.place(handle as u32).filter(|place| {
            let change = |word: u64| {
                (word >> 32 == handle >> 32 && word & DEAD == 0 && word & PINS != 0)
                    .then_some(word + 1)
            };
            place
                .word
                .fetch_update(Ordering::Acquire, Ordering::Relaxed, change)
                .is_ok()
        });
        let index = handle as u32;
        found
            .map(|place| Pin { place, index })
            .ok_or_else(|| self.unknown(handle))
    }

    /// Takes the object out of the table, and the pin that it has there.
    pub(crate) fn remove(&self, handle: u64) -> Result<Pin<'_, T>> {
        let index = handle as u32;
        let found = self.place(index).filter(|place| {
            let change = |word: u64| {
                (word >> 32 == handle >> 32 && word & DEAD == 0 && word & PINS != 0)
                    .then_some(word | DEAD)
            };
            place
                .word
                .fetch_update(Ordering::Acquire, Ordering::Relaxed, change)
                .is_ok()
        });
        found
            .map(|place| Pin { place, index })
            .ok_or_else(|| self.unknown(handle))
    }

    #[cold]
    fn unknown(&self, handle: u64) -> Error {
        let text = match handle {
            0 => format!("this {} was never made: its handle is 0", self.kind),
            _ => format!(
                "there is no such {}: it was released, or never made",
                self.kind
            ),
        };
        Error::new(Code::Invalid, text)
    }

    fn place(&self, index: u32) -> Option<&Place<T>> {
        let segment = self.segments.get(index as usize / SEGMENT)?;
        // SAFETY: null, or a segment that is never freed.
        let segment = unsafe { segment.load(Ordering::Acquire).as_ref() }?;
        Some(&segment[index as usize % SEGMENT])
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn take_free(&self) -> Result<u32> {
        let mut free = self.lock();
        if let Some(index) = free.places.pop() {
            return Ok(index);
        }
        let made = free.made as usize;
        let Some(segment) = self.segments.get(made / SEGMENT) else {
            let text = format!("there are {made} objects of this kind: {}", self.kind);
            return Err(Error::new(Code::System, text));
        };
        // Generation 1: no handle is 0.
        let place = |_| Place {
            word: AtomicU64::new(1 << 32),
            object: UnsafeCell::new(MaybeUninit::uninit()),
        };
        let new: Box<[Place<T>]> = (0..SEGMENT).map(place).collect();
        segment.store(Box::into_raw(new).cast(), Ordering::Release);
        free.made += SEGMENT as u32;
        let first = made as u32;
        free.places
            .extend((first + 1..first + SEGMENT as u32).rev());
        Ok(first)
    }

    fn give_free(&self, index: u32) {
        let kept = T::spare().try_with(|spare| {
            let mut spare = spare.0.borrow_mut();
            let room = spare.len() < KEPT;
            if room {
                spare.push(index);
            }
            room
        });
        if kept != Ok(true) {
            self.lock().places.push(index);
        }
    }
}

impl<T: Object> Pin<'_, T> {
    /// Takes the object out of the table, as [`Table::remove`]; if it is there still.
    pub(crate) fn take_out(&self) {
        // The table's pin goes; this one stays.
        let change = |word: u64| (word & DEAD == 0).then_some((word | DEAD) - 1);
        let _ = self
            .place
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    }
}

impl<T: Object> Deref for Pin<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the object is there while this pin is.
        unsafe { (*self.place.object.get()).assume_init_ref() }
    }
}

impl<T: Object> Drop for Pin<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // The last pin of what is dead is alone with it: nobody takes one any more.
        let mut before = self.place.word.load(Ordering::Acquire);
        if before & (DEAD | PINS) != DEAD | 1 {
            before = self.place.word.fetch_sub(1, Ordering::AcqRel);
            if before & (DEAD | PINS) != DEAD | 1 {
                return;
            }
        }
        // SAFETY: it is dead, so nobody takes a pin, and this was the last: it is ours.
        unsafe { (*self.place.object.get()).assume_init_drop() };
        let next = (before >> 32).wrapping_add(1) as u32;
        // After four thousand million objects a place is not used again.
        if next != 0 {
            self.place
                .word
                .store(u64::from(next) << 32, Ordering::Release);
            T::table().give_free(self.index);
        }
    }
}
