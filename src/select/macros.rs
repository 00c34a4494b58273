//! The [`select!`](crate::select!) macro: the shorthand for
//! [`select`](crate::sync::channel::select()).

/// Waits for the first of several things, and runs its arm.
///
/// | arm | goes on when |
/// |---|---|
/// | `recv(receiver) -> result => …` | a value is there: of a [channel](crate::sync::channel), a [`oneshot`](crate::sync::oneshot), a [`broadcast`](crate::sync::broadcast) |
/// | `send(sender, value) -> result => …` | the value is taken |
/// | `changed(receiver) -> result => …` | a [`watch`](crate::sync::watch) was set |
/// | `readable(&socket) => …`, `writable(&socket) => …` | a [read](crate::select::readable), a [write](crate::select::writable) would not wait |
/// | `after(duration) => …`, `at(instant) => …` | it is [so late](crate::select::after) |
/// | `cancelled() => …`, `cancelled(token) => …` | the [coroutine](crate::select::cancelled) is to end, the [token](crate::CancelToken) is cancelled |
/// | `join(handle) -> result => …` | a [coroutine](crate::JoinHandle) has ended |
/// | `signal(&[…]) -> result => …` | a [signal](crate::select::signal()) has come |
/// | `default => …` | no other arm can go on now |
/// | `default(duration) => …` | none could for so long |
///
/// `-> result` may be left out. `default` comes last. All arms give the same type;
/// `break`, `continue`, `return` and `?` work in them, and what the cases have borrowed is
/// free again.
///
/// What waits and how fair it is: [`select`](crate::sync::channel::select()). What did not
/// win has taken nothing: the next select finds it.
///
/// # Panics
///
/// Without arms it does not compile:
///
/// ```compile_fail
/// crore::select! {}
/// ```
///
/// # Examples
///
/// A connection in one coroutine is in [`crate::select`](mod@crate::select). Channels:
///
/// ```
/// use crore::sync::channel;
/// let (tx, rx) = channel::bounded(1);
/// let (quit, stop) = channel::bounded::<()>(1);
///
/// let mut got = Vec::new();
/// tx.send(1).unwrap();
/// loop {
///     crore::select! {
///         recv(rx) -> value => got.push(value.unwrap()),
///         recv(stop) -> _ => break,
///         default => quit.send(()).unwrap(),
///     }
/// }
/// assert_eq!(got, [1]);
///
/// let sent = crore::select! {
///     send(tx, 2) -> result => result.is_ok(),
///     default(std::time::Duration::from_secs(1)) => false,
/// };
/// assert!(sent);
/// ```
#[macro_export]
macro_rules! select {
    () => { ::core::compile_error!("a select! without arms would wait for ever") };
    ($($arms:tt)+) => { $crate::__select!(@cases [] $($arms)+) };
}

/// [`select!`](crate::select!), arm by arm. Each step makes a `case` variable,
/// which hygiene keeps apart from those of the other steps.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    (@cases [$($done:tt)*] recv($rx:expr) -> $result:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@cases [$($done)* {case ($rx).case(); $result => $body}] $($($rest)*)?)
    };
    (@cases [$($done:tt)*] send($tx:expr, $value:expr) -> $result:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@cases [$($done)* {case ($tx).case($value); $result => $body}] $($($rest)*)?)
    };
    (@cases [$($done:tt)*] default => $body:expr $(,)?) => {
        $crate::__select!(@run try_select(); $body; $($done)*)
    };
    (@cases [$($done:tt)*] default($time:expr) => $body:expr $(,)?) => {
        $crate::__select!(@run select_timeout($time); $body; $($done)*)
    };
    (@cases [$($done:tt)*] $case:ident($($of:expr),*) => $($rest:tt)+) => {
        $crate::__select!(@cases [$($done)*] $case($($of),*) -> _ => $($rest)+)
    };
    (@cases [$($done:tt)*] join($handle:expr) -> $result:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@cases [$($done)* {case ($handle).case(); $result => $body}] $($($rest)*)?)
    };
    (@cases [$($done:tt)*] changed($rx:expr) -> $result:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@cases [$($done)* {case ($rx).case(); $result => $body}] $($($rest)*)?)
    };
    (@cases [$($done:tt)*] cancelled($token:expr) -> $result:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@cases [$($done)* {case ($token).case(); $result => $body}] $($($rest)*)?)
    };
    (@cases [$($done:tt)*] $case:ident($($of:expr),*) -> $result:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(
            @cases [$($done)* {case $crate::select::$case($($of),*); $result => $body}] $($($rest)*)?
        )
    };
    (@cases [$($done:tt)*]) => {
        $crate::__select!(
            @run select(); ::core::unreachable!("select returns the number of a case"); $($done)*
        )
    };
    (@run $how:ident($($time:expr)?); $default:expr; $({$case:ident $make:expr; $result:pat => $body:expr})*) => {{
        // The cases end here, so that the arms may use the channels as they like.
        let (chosen, $($case,)*) = {
            $(let mut $case = $make;)*
            let chosen = $crate::sync::channel::$how(&mut [$(&mut $case),*] $(, $time)?);
            (::core::option::Option::<usize>::from(chosen), $($case.take(),)*)
        };
        $crate::__select!(@arms chosen, 0; $default; $({$case $result => $body})*)
    }};
    (@arms $chosen:ident, $n:expr; $default:expr;) => { $default };
    (@arms $chosen:ident, $n:expr; $default:expr; {$case:ident $result:pat => $body:expr} $($rest:tt)*) => {
        if $chosen == ::core::option::Option::Some($n) {
            let $result = $case.expect("the chosen case is done");
            $body
        } else {
            $crate::__select!(@arms $chosen, $n + 1; $default; $($rest)*)
        }
    };
}
