//! Serves what the runtime counts, and a counter of its own, as text that Prometheus reads:
//! an HTTP server of one coroutine a connection.
//!
//! ```text
//! cargo run -p crore-metrics --example prometheus -- 127.0.0.1:9100
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9100".into());
    let recorder = PrometheusBuilder::new().install_recorder();
    let recorder = recorder.map_err(io::Error::other)?;
    let runtime = crore::Runtime::builder().workers(2).build()?;
    crore_metrics::describe(&runtime.handle());
    runtime.run(|| {
        let listener = TcpListener::bind(address)?;
        println!("http://{}/metrics", listener.local_addr()?);
        for stream in listener.incoming() {
            let (stream, recorder) = (stream?, recorder.clone());
            crore::spawn(move || answer(stream, &recorder));
        }
        Ok(())
    })?
}

fn answer(stream: TcpStream, recorder: &PrometheusHandle) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    // The headers, up to an empty line.
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    metrics::counter!("http_requests").increment(1);
    let (status, body) = match request.split(' ').collect::<Vec<_>>()[..] {
        ["GET", "/metrics", _] => {
            crore_metrics::record(&crore::Handle::current().expect("in a coroutine"));
            ("200 OK", recorder.render())
        }
        _ => ("404 Not Found", "it is at /metrics\n".into()),
    };
    let (kind, length) = ("text/plain; version=0.0.4", body.len());
    write!(
        &stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}
