//! `http_hyper ADDRESS`: `/plaintext` and `/json` on hyper and one thread of tokio's.

use std::convert::Infallible;
use std::io;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (content, body) = match request.uri().path() {
        "/plaintext" => ("text/plain", "Hello, World!"),
        "/json" => ("application/json", r#"{"message":"Hello, World!"}"#),
        _ => ("text/plain", ""),
    };
    let mut response = Response::new(Full::from(body));
    if body.is_empty() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(SERVER, HeaderValue::from_static("hyper"));
    Ok(response)
}

async fn serve(address: String) -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            // A client that goes is no error of ours.
            let _ = connection.await;
        });
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).expect("usage: http_hyper ADDRESS");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(serve(address))
}
