//! The server: a coroutine for each connection, one that accepts, and the end.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crore::io::Listener;
use crore::sync::Semaphore;
use crore::{Builder, CancelToken, Runtime};

use crate::app::App;
use crate::connection::{Limits, Reply, Request, Service, serve, turn_away};
use crate::pool::Pool;

/// Those that are turned away, and stay until they have read why.
const TURNED_AWAY: usize = 64;

/// How to serve.
#[derive(Debug)]
pub struct Server {
    /// Threads with coroutines.
    pub workers: usize,
    /// Connections at one time.
    pub connections: usize,
    /// What each client may do.
    pub limits: Limits,
    /// How long the database may take.
    pub patience: Duration,
    /// How long requests may go on when the server is to end.
    pub grace: Duration,
    /// Where the database's rows come from.
    pub pool: Option<Pool>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: 1,
            connections: 10_000,
            limits: Limits::default(),
            patience: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            pool: None,
        }
    }
}

/// What connections share.
struct Shared {
    app: App,
    limits: Limits,
    patience: Duration,
    end: CancelToken,
    room: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
}

impl Service for Shared {
    fn answer(&self, request: &Request<'_>, body: &mut Vec<u8>) -> Reply {
        if !self.app.waits(request) {
            return self.app.answer(request, body);
        }
        // Its own limits hold while the database's server answers; this one if it hangs.
        let in_time = crore::timeout(2 * self.patience, || self.app.answer(request, body));
        in_time.unwrap_or_else(|_| {
            body.clear();
            body.extend_from_slice(b"504 Gateway Timeout: the database does not answer\n");
            Reply::error(504)
        })
    }

    fn is_ending(&self) -> bool {
        self.end.is_cancelled()
    }

    /// A limit around the call, of which the kernel need not be told.
    fn read(
        &self,
        mut stream: &TcpStream,
        buffer: &mut [u8],
        limit: Duration,
    ) -> io::Result<usize> {
        crore::timeout(limit, || stream.read(buffer))?
    }
}

impl Server {
    /// Serves until `end` is cancelled. Then it takes no connection more; those that wait
    /// for a request end, and the others with the answer to their present one.
    ///
    /// # Errors
    ///
    /// Those of the address and of the runtime.
    pub fn run(
        self,
        addr: SocketAddr,
        end: &CancelToken,
        ready: impl FnOnce(SocketAddr),
    ) -> io::Result<()> {
        let runtime = Runtime::builder()
            .workers(self.workers)
            .drain(self.grace)
            // The database's client wants to be on a thread.
            .own_thread_locals(self.pool.is_some())
            .build()?;
        // Its client needs more, the more so where it is not optimised.
        let stack = if self.pool.is_some() { 256 } else { 64 } * 1024;
        let shared = Arc::new(Shared {
            app: App { pool: self.pool },
            limits: self.limits,
            patience: self.patience,
            end: end.clone(),
            room: Arc::new(Semaphore::new(self.connections)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
        });
        runtime.run(|| {
            let listener = Listener::bind(addr)?;
            ready(listener.local_addr()?);
            end.bind(|| {
                loop {
                    match listener.accept() {
                        Ok((stream, _)) => take(stream, &shared, stack),
                        Err(error) if crore::io::is_cancelled(&error) => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
            })
        })?
    }
}

/// Gives a connection its coroutine, if there is room for it.
fn take(stream: TcpStream, shared: &Arc<Shared>, stack: usize) {
    let permit = Arc::clone(&shared.room).try_acquire_owned(1);
    let refused = permit.is_err();
    let instead = || Arc::clone(&shared.turned_away).try_acquire_owned(1);
    let Ok(permit) = permit.or_else(|_| instead()) else {
        return;
    };
    let shared = Arc::clone(shared);
    let spawned = Builder::new().stack_size(stack).spawn(move || {
        let _permit = permit;
        let end = shared.end.child();
        // How a connection ends is the client's business.
        let _ = end.bind(|| match refused {
            false => serve(&stream, &*shared, &shared.limits),
            true => turn_away(&stream, &*shared, &shared.limits),
        });
    });
    if let Err(error) = spawned {
        eprintln!("a connection could not be served: {error}");
    }
}
