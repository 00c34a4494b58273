//! The picture, for a terminal of any size.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};

use crate::rates::{Rates, WorkerRates};

/// What is drawn.
pub(crate) struct View<'a> {
    pub(crate) title: &'a str,
    pub(crate) rates: &'a Rates,
    /// Beside the keys, or in place of them: that there is no answer, say.
    pub(crate) note: Option<&'a str>,
}

const KEYS: &str = "q: leave   space: halt   + -: more, less often";

/// Columns of a bar.
const BAR: u16 = 8;

impl View<'_> {
    /// Lines that show everything.
    pub(crate) fn height(&self) -> u16 {
        let summary = &self.rates.summary;
        let rows = self.rates.workers.len() + summary.doing.len() + summary.places.len();
        u16::try_from(rows).unwrap_or(u16::MAX - 8) + 5
    }

    /// The workers come first, then what is done, then the places: what there is no room
    /// for is left out.
    pub(crate) fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        // What went wrong is said in the smallest of terminals, too.
        let foot = u16::from(area.height >= 6 || (self.note.is_some() && area.height >= 2));
        let rest = area.height.saturating_sub(1 + foot);
        let rows = |n: usize| u16::try_from(n + 1).unwrap_or(u16::MAX);
        let all = [
            rows(self.rates.workers.len()),
            rows(self.rates.summary.doing.len()),
            rows(self.rates.summary.places.len()),
        ];
        // A half at most, unless the others need less.
        let part = |rest: u16, own: u16, others: u16| {
            own.min(rest.div_ceil(2).max(rest.saturating_sub(others)))
        };
        let workers = part(rest, all[0], all[1].saturating_add(all[2]));
        let doing = part(rest - workers, all[1], all[2]);
        let [head, workers, doing, places, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(workers),
            Constraint::Length(doing),
            Constraint::Min(0),
            Constraint::Length(foot),
        ])
        .areas(area);
        frame.render_widget(self.head(), head);
        self.workers(frame, workers);
        self.doing(frame, doing);
        self.places(frame, places);
        frame.render_widget(Line::from(self.note.unwrap_or(KEYS)), foot);
    }

    fn head(&self) -> Line<'_> {
        let rates = self.rates;
        let text = format!(
            "{}: {:.0} % busy, {} live, {} runnable, {} resumed/s",
            self.title,
            100.0 * rates.sum(|one| one.busy),
            rates.live(),
            rates.runnable(),
            short(rates.sum(|one| one.resumed)),
        );
        Line::styled(text, Style::new().add_modifier(Modifier::BOLD))
    }

    fn workers(&self, frame: &mut Frame<'_>, area: Rect) {
        let mut all: Vec<_> = self.rates.workers.iter().collect();
        if all.len() >= area.height.into() {
            // The busiest, if not all can be seen.
            all.sort_by(|a, b| b.busy.total_cmp(&a.busy));
        }
        let widths = [6, BAR + 6, 8, 8, 9, 9, 8, 8];
        let names = [
            "WORKER",
            "BUSY",
            "LIVE",
            "RUNNABLE",
            "RESUMED/s",
            "SPAWNED/s",
            "STEALS/s",
            "LONGEST",
        ];
        let row = |one: &WorkerRates| {
            let cells = [
                one.number.to_string(),
                format!("{} {:3.0} %", bar(one.busy), 100.0 * one.busy),
                one.live.to_string(),
                one.runnable.to_string(),
                short(one.resumed),
                short(one.spawned),
                short(one.steals),
                time(one.longest),
            ];
            Row::new(cells)
        };
        let rows = all.into_iter().map(row);
        table(frame, area, &names, &widths.map(Constraint::Length), rows);
    }

    fn doing(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.rates.summary.doing.iter();
        let rows = rows.map(|(what, count)| Row::new([count.to_string(), what.clone()]));
        let widths = [Constraint::Length(9), Constraint::Fill(1)];
        table(frame, area, &["COUNT", "DOING"], &widths, rows);
    }

    fn places(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.rates.summary.places.iter().map(|one| {
            Row::new([
                one.count.to_string(),
                one.parked.to_string(),
                one.shared.to_string(),
                bytes(one.frame_bytes),
                end(&one.spawned_at, area.width.saturating_sub(40)),
            ])
        });
        let widths = [9, 9, 9, 9].map(Constraint::Length);
        let widths = [&widths[..], &[Constraint::Fill(1)]].concat();
        let names = ["COUNT", "PARKED", "SHARED", "FRAMES", "SPAWNED AT"];
        table(frame, area, &names, &widths, rows);
    }
}

fn table<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    names: &[&'static str],
    widths: &[Constraint],
    rows: impl Iterator<Item = Row<'a>>,
) {
    let head = Row::new(names.to_vec()).style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

/// A share as a bar of eighths of a column.
fn bar(share: f64) -> String {
    let eighths = (share.clamp(0.0, 1.0) * f64::from(BAR) * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((eighths % 8).wrapping_sub(1)));
    format!("{bar:0$}", usize::from(BAR))
}

/// The end of a path, which tells more than its beginning.
fn end(path: &str, room: u16) -> String {
    let (len, room) = (path.chars().count(), usize::from(room));
    if len <= room {
        return path.into();
    }
    let skipped = len - room.saturating_sub(1);
    ['…']
        .into_iter()
        .chain(path.chars().skip(skipped))
        .collect()
}

/// A number of at most five characters.
fn short(number: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e4, "k")];
    match units.into_iter().find(|(least, _)| number >= *least) {
        Some((_, "k")) => format!("{:.0}k", number / 1e3),
        Some((least, unit)) => format!("{:.1}{unit}", number / least),
        None => format!("{number:.0}"),
    }
}

/// In at most eight characters.
fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "-".into(),
        1..10_000 => format!("{bytes} B"),
        10_000..10_240_000 => format!("{} KiB", bytes >> 10),
        10_240_000..10_485_760_000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

fn time(time: Duration) -> String {
    match time.as_micros() {
        0 => "-".into(),
        micros @ ..10_000 => format!("{micros} µs"),
        micros @ ..10_000_000 => format!("{} ms", micros / 1_000),
        micros => format!("{} s", micros / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crore_inspect::{Place, Summary};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn rates(workers: usize) -> Rates {
        let worker = |number| WorkerRates {
            number,
            busy: number as f64 / workers as f64,
            resumed: 12_345.0,
            live: 7,
            longest: Duration::from_millis(40),
            ..WorkerRates::default()
        };
        let place = |number: u64| Place {
            spawned_at: format!("src/some/where/far/down/in/the/sources/file_{number}.rs:4:46"),
            count: 100 - number,
            parked: 10,
            shared: 0,
            frame_bytes: 4096 * (100 - number),
        };
        Rates {
            workers: (0..workers).map(worker).collect(),
            summary: Summary {
                workers: vec![Vec::new(); workers],
                doing: vec![("waits to read".into(), 500), ("running".into(), 1)],
                places: (0..30).map(place).collect(),
            },
        }
    }

    fn drawn(workers: usize, width: u16, height: u16, note: Option<&str>) -> String {
        draw(workers, width, height, note).backend().to_string()
    }

    fn draw(workers: usize, width: u16, height: u16, note: Option<&str>) -> Terminal<TestBackend> {
        let (title, rates) = ("7 test", &rates(workers));
        let view = View { title, rates, note };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal
    }

    #[test]
    fn it_fits_terminals_of_all_sizes() {
        for workers in [0, 1, 100] {
            for width in [0, 1, 2, 10, 40, 120] {
                for height in [0, 1, 2, 3, 5, 6, 7, 10, 40] {
                    draw(workers, width, height, None);
                    draw(workers, width, height, Some("a note"));
                }
            }
        }
    }

    #[test]
    fn an_ordinary_one_shows_all_parts() {
        let text = drawn(2, 80, 24, None);
        for part in [
            "7 test: 50 % busy, 14 live, 0 runnable, 25k resumed/s",
            "1      ████      50 %",
            "40 ms",
            "500       waits to read",
            "100       10        0         400 KiB   …/far/down/in/the/sources/file_0.rs:4:46",
            KEYS,
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn what_is_as_high_as_is_needed_shows_everything() {
        for (workers, doing, places) in [(1, 1, 1), (9, 1, 1), (1, 9, 1), (1, 1, 9)] {
            let mut rates = rates(workers);
            rates.summary.doing = (0..doing).map(|i| (format!("thing {i}"), 1)).collect();
            rates.summary.places.truncate(places);
            let (title, rates, note) = ("7 test", &rates, Some(""));
            let view = View { title, rates, note };
            let mut terminal = Terminal::new(TestBackend::new(80, view.height())).unwrap();
            terminal.draw(|frame| view.draw(frame)).unwrap();
            let text = terminal.backend().to_string();
            assert_eq!(text.matches(" 40 ms").count(), workers, "{text}");
            assert_eq!(text.matches(" thing ").count(), doing, "{text}");
            assert_eq!(text.matches(".rs:4:46").count(), places, "{text}");
        }
    }

    #[test]
    fn a_tiny_one_shows_the_first_lines_and_what_went_wrong() {
        let text = drawn(2, 30, 2, Some("it has ended"));
        assert!(text.contains("7 test: 50 % busy, 14 live"), "{text}");
        assert!(text.contains("it has ended"), "{text}");
    }

    #[test]
    fn of_many_workers_the_busiest_are_shown() {
        let text = drawn(100, 80, 12, None);
        assert!(text.contains("99     "), "{text}");
        assert!(!text.contains("\"0      "), "{text}");
    }

    #[test]
    fn of_long_paths_the_end_is_shown() {
        assert_eq!(end("src/main.rs:4:46", 20), "src/main.rs:4:46");
        assert_eq!(end("src/main.rs:4:46", 8), "…rs:4:46");
        assert_eq!(end("src/main.rs:4:46", 0), "…");
    }

    #[test]
    fn numbers_and_times_are_short() {
        assert_eq!(
            [0.4, 9_999.0, 12_345.0, 1.25e6, 3e9].map(short),
            ["0", "9999", "12k", "1.2M", "3.0G"]
        );
        let sizes = [0, 9_999, 4_096_000, 5 << 30, 50 << 30].map(bytes);
        assert_eq!(sizes, ["-", "9999 B", "4000 KiB", "5120 MiB", "50 GiB"]);
        let times = [0, 900, 40_000, 12_000_000].map(Duration::from_micros);
        assert_eq!(times.map(time), ["-", "900 µs", "40 ms", "12 s"]);
        assert_eq!(bar(0.0).trim(), "");
        assert_eq!(bar(1.5), "████████");
    }
}
