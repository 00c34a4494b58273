//! The date of HTTP's heads: `Sun, 06 Nov 1994 08:49:37 GMT`.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a date.
pub(crate) const LENGTH: usize = 29;

/// The date now. Written once a second and thread: nothing here waits, so coroutines
/// may share what their thread has.
pub(crate) fn now() -> [u8; LENGTH] {
    thread_local! {
        static LAST: Cell<(u64, [u8; LENGTH])> = const { Cell::new((u64::MAX, [0; LENGTH])) };
    }
    // A clock before 1970 is taken for 1970.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let (last, text) = LAST.get();
    if last == seconds {
        return text;
    }
    let text = written(seconds);
    LAST.set((seconds, text));
    text
}

fn written(seconds: u64) -> [u8; LENGTH] {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the day that may be missing is the last one;
    // and four centuries (146 097 days) are all alike.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    let text = format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[((month + 2) % 12) as usize],
        second / 3_600,
        second / 60 % 60,
        second % 60
    );
    let mut out = [b' '; LENGTH];
    // Five digits for the year are some thousand years away.
    let end = text.len().min(LENGTH);
    out[..end].copy_from_slice(&text.as_bytes()[..end]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As GNU `date -u -R` has them.
    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(String::from_utf8_lossy(&written(seconds)), date);
        }
    }

    #[test]
    fn now_is_a_date_of_this_century() {
        let now = String::from_utf8(now().to_vec()).unwrap();
        assert!(
            now.ends_with(" GMT") && now[12..].starts_with("20"),
            "{now}"
        );
    }
}
