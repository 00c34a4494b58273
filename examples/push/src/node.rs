//! Node: the service from its first listener to its last goodbye.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crore::io::Listener;
use crore::signal::{SIGHUP, SIGINT, SIGTERM};
use crore::{Builder, CancelToken, Runtime};

use crate::config::Config;
use crate::service::Service;
use crate::{admin, gateway};

/// Serves until SIGTERM or SIGINT; reads its settings again, by `settings`, at SIGHUP.
pub fn run(
    service: &Arc<Service>,
    settings: impl Fn() -> Result<Config, String>,
) -> io::Result<()> {
    let config = service.config();
    let workers = match config.workers {
        0 => crore::available_parallelism()?.get(),
        workers => workers,
    };
    let runtime = Runtime::builder()
        .workers(workers)
        .drain(Duration::from_millis(config.grace_ms))
        .build()?;
    let server = CancelToken::new();
    runtime.run(|| {
        // From here on the signals come here.
        crore::select! {
            signal(&[SIGHUP, SIGINT, SIGTERM]) -> _ => {},
            default => {}
        }
        let accepting = begin(&config, service, &server)?;
        loop {
            if crore::signal::wait(&[SIGHUP, SIGINT, SIGTERM])? != SIGHUP {
                break;
            }
            match settings().and_then(|config| service.reload(config)) {
                Ok(()) => eprintln!("push: the settings were read again"),
                Err(why) => eprintln!("push: the settings stay as they are: {why}"),
            }
        }
        service.drain();
        accepting.cancel();
        server.cancel();
        io::Result::Ok(())
    })??;
    let left = service.counters.sockets.get();
    eprintln!(
        "push: {} goodbyes were said, {left} connections cut",
        service.counters.goodbyes.get(),
    );
    Ok(())
}

/// Opens the listeners and says where they are, on standard output.
fn begin(config: &Config, service: &Arc<Service>, server: &CancelToken) -> io::Result<CancelToken> {
    let at = |what, why: io::Error| io::Error::new(why.kind(), format!("{what}: {why}"));
    let listeners = Listener::per_worker(&*config.listen).map_err(|why| at(&config.listen, why))?;
    let asked = Listener::bind(&*config.admin).map_err(|why| at(&config.admin, why))?;
    let (clients, admins) = (listeners[0].local_addr()?, asked.local_addr()?);

    let accepting = CancelToken::new();
    for (worker, listener) in listeners.into_iter().enumerate() {
        let (service, server, accepting) = (service.clone(), server.clone(), accepting.clone());
        Builder::new()
            .name(format!("acceptor {worker}"))
            .worker(worker)
            .daemon(true)
            .spawn(move || accepting.bind(|| gateway::accept(&listener, &service, &server)))?;
    }
    service.bus.begin(service)?;
    let asking = service.clone();
    Builder::new()
        .name("admin".into())
        .daemon(true)
        .spawn(move || admin::serve(&asked, &asking))?;
    let swept = service.clone();
    Builder::new()
        .name("sweeper".into())
        .daemon(true)
        .spawn(move || {
            loop {
                crore::sleep(Duration::from_secs(1));
                swept.sweep();
            }
        })?;
    println!("listening at {clients}, admin at {admins}");
    Ok(accepting)
}
