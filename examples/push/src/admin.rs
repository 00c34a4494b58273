//! Admin: `/metrics`, `/dump` and `/health`, at an address of their own, which is not
//! the clients'.

use std::fmt::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crore::io::Listener;

use crate::head;
use crate::service::Service;

/// How long a question may take to be read, and its answer to be taken. What lies between
/// has no limit: the names in a dump are looked up in the program's debug information.
const LIMIT: Duration = Duration::from_secs(5);
/// Questions at a time.
const MOST: usize = 16;

/// Answers until it is asked to end.
pub fn serve(listener: &Listener, service: &Arc<Service>) {
    let room = Arc::new(crore::sync::Semaphore::new(MOST));
    while let Ok((socket, _)) = listener.accept() {
        let Ok(place) = room.clone().acquire_owned(1) else {
            return;
        };
        let service = service.clone();
        crore::spawn_local(move || {
            let _place = place;
            // Who asks and does not listen is no concern of ours.
            let _ = answer(socket, &service);
        });
    }
}

fn answer(mut socket: TcpStream, service: &Service) -> std::io::Result<()> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let asked = crore::timeout(LIMIT, || head::read(&mut socket));
    let Some(head) = asked.map_err(late)?? else {
        return Ok(());
    };
    let (status, text) = match head.request.uri().path() {
        "/metrics" => (200, metrics(service)),
        "/dump" => (200, dump()?),
        "/health" if service.is_ready() && service.bus.is_there() => (200, "ready\n".into()),
        "/health" if service.is_ready() => (503, "the bus is away\n".into()),
        "/health" => (503, "about to end\n".into()),
        _ => (404, "here are /metrics, /dump and /health\n".into()),
    };
    let kind = "text/plain; charset=utf-8";
    crore::timeout(LIMIT, || head::answer(&mut socket, status, kind, &text)).map_err(late)?
}

fn metrics(service: &Service) -> String {
    let mut text = service.counters.prometheus();
    for (name, value) in [
        ("channels", service.channels.len()),
        ("history_bytes", service.channels.memory()),
    ] {
        // A string takes all.
        let _ = writeln!(text, "# TYPE push_{name} gauge\npush_{name} {value}");
    }
    if let Some(handle) = crore::Handle::current() {
        text += &crore_inspect::prometheus(&handle.worker_metrics());
    }
    text
}

/// The look-ups compute, so they are another thread's.
fn dump() -> std::io::Result<String> {
    let handle = crore::Handle::current().ok_or(std::io::ErrorKind::NotConnected)?;
    let dump = handle.dump();
    let text = crore::spawn_blocking(move || dump.to_string());
    text.join()
        .map_err(|_| std::io::Error::other("the dump failed"))
}
