//! Channels of pointers.

use std::ffi::{c_int, c_void};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crore::sync::channel::{
    Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded,
    rendezvous, unbounded,
};

use crate::error::{Code, Error, Result, call, not_null};
use crate::table::{Object, table};
use crate::task::Value;

/// `crore_channel` of the header.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Channel {
    id: u64,
}

/// Both ends. Closing drops the first; sends that wait have one of their own.
struct Ends {
    sender: Mutex<Option<Sender<Value>>>,
    receiver: Receiver<Value>,
}

table!(Ends, "channel");

impl Ends {
    fn sender(&self) -> Result<Sender<Value>> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.clone().ok_or_else(|| Error::of(Code::Closed))
    }

    fn close(&self) -> Option<Sender<Value>> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.take()
    }
}

/// For how long a call waits.
enum Limit {
    Never,
    Not,
    After(u64),
}

fn send(channel: Channel, value: *mut c_void, limit: Limit) -> Result {
    let ends = Ends::table().get(channel.id)?;
    let (sender, value) = (ends.sender()?, Value(value));
    match limit {
        Limit::Never => sender.send(value).map_err(|_| Error::of(Code::Closed)),
        Limit::Not => sender.try_send(value).map_err(|error| match error {
            TrySendError::Full(_) => Error::of(Code::WouldBlock),
            TrySendError::Disconnected(_) => Error::of(Code::Closed),
        }),
        Limit::After(nanoseconds) => sender
            .send_timeout(value, Duration::from_nanos(nanoseconds))
            .map_err(|error| match error {
                SendTimeoutError::Timeout(_) => Error::of(Code::Timeout),
                SendTimeoutError::Disconnected(_) => Error::of(Code::Closed),
            }),
    }
}

fn receive(channel: Channel, place: *mut *mut c_void, limit: Limit) -> Result {
    let place = not_null(place, "the value's place")?;
    let ends = Ends::table().get(channel.id)?;
    let value = match limit {
        Limit::Never => ends.receiver.recv().map_err(|_| Error::of(Code::Closed))?,
        Limit::Not => ends.receiver.try_recv().map_err(|error| match error {
            TryRecvError::Empty => Error::of(Code::WouldBlock),
            TryRecvError::Disconnected => Error::of(Code::Closed),
        })?,
        Limit::After(nanoseconds) => ends
            .receiver
            .recv_timeout(Duration::from_nanos(nanoseconds))
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => Error::of(Code::Timeout),
                RecvTimeoutError::Disconnected => Error::of(Code::Closed),
            })?,
    };
    // SAFETY: the caller's place.
    unsafe { place.write(value.0) };
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_channel_new(capacity: usize, channel: *mut Channel) -> c_int {
    call(|| {
        let place = not_null(channel, "the channel's place")?;
        let (sender, receiver) = match capacity {
            0 => rendezvous(),
            usize::MAX => unbounded(),
            capacity => bounded(capacity),
        };
        let sender = Mutex::new(Some(sender));
        let id = Ends::table().insert(Ends { sender, receiver })?;
        // SAFETY: the caller's place.
        unsafe { place.write(Channel { id }) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_channel_close(channel: Channel) -> c_int {
    call(|| {
        let ends = Ends::table().get(channel.id)?;
        ends.close()
            .map(drop)
            .ok_or_else(|| Error::of(Code::Closed))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn crore_channel_free(channel: Channel) -> c_int {
    call(|| {
        Ends::table()
            .remove(channel.id)
            .map(|ends| drop(ends.close()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_send(channel: Channel, value: *mut c_void) -> c_int {
    call(|| send(channel, value, Limit::Never))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_try_send(channel: Channel, value: *mut c_void) -> c_int {
    call(|| send(channel, value, Limit::Not))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_send_timeout(
    channel: Channel,
    value: *mut c_void,
    nanoseconds: u64,
) -> c_int {
    call(|| send(channel, value, Limit::After(nanoseconds)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_recv(channel: Channel, value: *mut *mut c_void) -> c_int {
    call(|| receive(channel, value, Limit::Never))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_try_recv(channel: Channel, value: *mut *mut c_void) -> c_int {
    call(|| receive(channel, value, Limit::Not))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn crore_recv_timeout(
    channel: Channel,
    value: *mut *mut c_void,
    nanoseconds: u64,
) -> c_int {
    call(|| receive(channel, value, Limit::After(nanoseconds)))
}
