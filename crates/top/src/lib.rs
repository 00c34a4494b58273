//! `crore top`: what the coroutines of a running program do, live in a terminal.
//!
//! A thread asks the program, which may be stopped or busy; keys are answered meanwhile.

mod rates;
mod view;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crore_inspect::{Question, Summary};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use rates::Rates;
use view::View;

/// How soon keys, signals and answers are noticed.
const LOOK: Duration = Duration::from_millis(50);

/// Without an answer for so long, it is said.
const SILENCE: Duration = Duration::from_secs(2);

/// The width of what is printed [once](once).
const WIDTH: u16 = 100;

type Answer = io::Result<(Instant, Summary)>;

fn ask(process: u32) -> Answer {
    let text = crore_inspect::ask(process, Question::Summary)?;
    let summary = Summary::parse(&text).ok_or_else(|| {
        let why = "its answer is not understood: it has another version of crore";
        io::Error::new(io::ErrorKind::InvalidData, why)
    })?;
    Ok((Instant::now(), summary))
}

/// The process by its number and name.
fn title(process: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    let name: String = name
        .trim_end()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    format!("{process} {name}").trim_end().into()
}

/// What two answers, `every` apart, come to, in words.
///
/// # Errors
///
/// As [`crore_inspect::ask`]; `InvalidData`: the answer is another version's.
pub fn once(process: u32, every: Duration) -> io::Result<String> {
    let (before, first) = ask(process)?;
    thread::sleep(every);
    let (now, second) = ask(process)?;
    let rates = &Rates::between(&first, second, now - before);
    let (title, note) = (&title(process), Some(""));
    let view = View { title, rates, note };
    // It writes to memory.
    let mut terminal = Terminal::new(TestBackend::new(WIDTH, view.height()))?;
    terminal.draw(|frame| view.draw(frame))?;
    let mut text = String::new();
    for row in terminal.backend().buffer().content.chunks(WIDTH.into()) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text.truncate(text.trim_end().len() + 1);
    Ok(text)
}

/// Shows what a process does, renewed so often, until a key or a signal ends that. It
/// goes on to show the last answer when the process has ended.
///
/// # Errors
///
/// As [`once`]; what is read or written is no terminal; what the terminal says.
pub fn run(process: u32, every: Duration) -> io::Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let why = "it is shown in a terminal only; `crore top --once` and `crore metrics` print";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    let (at, summary) = ask(process)?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [1, 2, 15] {
        // SIGHUP, SIGINT, SIGTERM: the terminal is left as it was.
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let mut top = Top {
        process,
        title: title(process),
        every,
        halted: false,
        asked: None,
        gone: None,
        at,
        rates: Rates::between(&summary, summary.clone(), every),
    };
    let mut terminal = ratatui::try_init()?;
    let result = top.show(&mut terminal, &ended);
    let restored = ratatui::try_restore();
    result.and(restored)
}

struct Top {
    process: u32,
    title: String,
    every: Duration,
    halted: bool,
    /// Where the next answer comes from, and since when it is waited for.
    asked: Option<(Instant, Receiver<Answer>)>,
    /// Why there are no further answers.
    gone: Option<String>,
    /// When the last answer came.
    at: Instant,
    rates: Rates,
}

impl Top {
    fn show(
        &mut self,
        terminal: &mut ratatui::DefaultTerminal,
        ended: &AtomicBool,
    ) -> io::Result<()> {
        let mut drawn = None;
        while !ended.load(Ordering::Relaxed) {
            self.take_answer();
            // A resized terminal is drawn anew.
            let state = (self.at, self.note(), terminal.size()?);
            if drawn.as_ref() != Some(&state) {
                let view = View {
                    title: &self.title,
                    rates: &self.rates,
                    note: state.1.as_deref(),
                };
                terminal.draw(|frame| view.draw(frame))?;
                drawn = Some(state);
            }
            if event::poll(LOOK)? && self.is_left_by(&event::read()?) {
                break;
            }
        }
        Ok(())
    }

    /// Asks again, if it is time to.
    fn take_answer(&mut self) {
        match &self.asked {
            Some((_, answers)) => {
                let Ok(answer) = answers.try_recv() else {
                    return;
                };
                self.asked = None;
                match answer {
                    Ok((at, summary)) => {
                        self.rates = Rates::between(&self.rates.summary, summary, at - self.at);
                        self.at = at;
                    }
                    Err(why) => self.gone = Some(self.why_gone(&why)),
                }
            }
            None if self.halted || self.gone.is_some() || self.at.elapsed() < self.every => {}
            None => {
                let (process, (tell, answers)) = (self.process, mpsc::channel());
                // A stopped program is waited for by one that ends with the command.
                thread::spawn(move || tell.send(ask(process)));
                self.asked = Some((Instant::now(), answers));
            }
        }
    }

    fn why_gone(&self, why: &io::Error) -> String {
        let (process, folder) = (self.process, format!("/proc/{}", self.process));
        match Path::new(&folder).exists() {
            true => format!("process {process}: {why}; this was the last answer (q: leave)"),
            false => format!("process {process} has ended; this was the last answer (q: leave)"),
        }
    }

    fn note(&self) -> Option<String> {
        let waits = self.asked.as_ref().map(|(since, _)| since.elapsed());
        match (&self.gone, waits) {
            (Some(gone), _) => Some(gone.clone()),
            (None, Some(time)) if time >= SILENCE => {
                Some(format!("no answer for {} s (q: leave)", time.as_secs()))
            }
            _ if self.halted => Some("halted (space: go on, q: leave)".into()),
            _ => None,
        }
    }

    fn is_left_by(&mut self, event: &Event) -> bool {
        let Event::Key(key) = event else { return false };
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if with_control => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char(' ') => self.halted = !self.halted,
            KeyCode::Char('+') => self.every = (self.every / 2).max(Duration::from_millis(125)),
            KeyCode::Char('-') => self.every = (self.every * 2).min(Duration::from_secs(64)),
            _ => {}
        }
        false
    }
}
