//! `http_may ADDRESS`: `/plaintext` and `/json` on may_minihttp, with one worker.

use std::io;

use may_minihttp::{HttpServer, HttpService, Request, Response};

#[derive(Clone)]
struct Answers;

impl HttpService for Answers {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        match request.path() {
            "/plaintext" => {
                response.header("Content-Type: text/plain");
                response.body("Hello, World!");
            }
            "/json" => {
                response.header("Content-Type: application/json");
                response.body(r#"{"message":"Hello, World!"}"#);
            }
            _ => {
                response.status_code(404, "Not Found");
            }
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).expect("usage: http_may ADDRESS");
    may::config().set_workers(1);
    let server = HttpServer(Answers).start(address)?;
    server.join().expect("it goes on for ever");
    Ok(())
}
