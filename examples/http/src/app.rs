//! What is answered: TechEmpower's shapes.

use std::fmt::Write;

use super::connection::{Reply, Request};
use super::pool::{Pool, World};

/// Rows that one request may ask for.
const MOST_ROWS: usize = 500;

const JSON: Reply = Reply {
    status: 200,
    content_type: "application/json",
};
const TEXT: Reply = Reply {
    status: 200,
    content_type: "text/plain",
};

/// The service.
#[derive(Debug, Default)]
pub struct App {
    /// Without it `/db` and `/queries` are not there.
    pub pool: Option<Pool>,
}

impl App {
    /// Whether the answer waits for the database.
    pub fn waits(&self, request: &Request<'_>) -> bool {
        self.pool.is_some() && matches!(request.path, "/db" | "/queries")
    }

    /// Writes the body of the answer.
    pub fn answer(&self, request: &Request<'_>, body: &mut Vec<u8>) -> Reply {
        match (request.path, &self.pool) {
            ("/plaintext", _) => {
                body.extend_from_slice(b"Hello, World!");
                TEXT
            }
            ("/json", _) => {
                body.extend_from_slice(br#"{"message":"Hello, World!"}"#);
                JSON
            }
            ("/db", Some(pool)) => written(pool.worlds(1), body, |worlds| object(&worlds[0])),
            ("/queries", Some(pool)) => {
                let rows = pool.worlds(rows(request.query));
                written(rows, body, |worlds| {
                    let objects: Vec<_> = worlds.iter().map(object).collect();
                    format!("[{}]", objects.join(","))
                })
            }
            _ => {
                body.extend_from_slice(b"404 Not Found: there is /plaintext and /json, ");
                body.extend_from_slice(b"and with a database /db and /queries?n=20\n");
                Reply::error(404)
            }
        }
    }
}

/// The rows as JSON, or why there are none.
fn written(
    rows: Result<Vec<World>, String>,
    body: &mut Vec<u8>,
    json: impl FnOnce(&[World]) -> String,
) -> Reply {
    match rows {
        Ok(rows) => {
            body.extend_from_slice(json(&rows).as_bytes());
            JSON
        }
        Err(why) => {
            body.extend_from_slice(format!("503 Service Unavailable: {why}\n").as_bytes());
            Reply::error(503)
        }
    }
}

fn object(world: &World) -> String {
    let World { id, number } = world;
    let mut out = String::with_capacity(40);
    let done = write!(out, r#"{{"id":{id},"randomNumber":{number}}}"#);
    done.expect("strings take everything");
    out
}

/// How many are asked for, as `n` or, in TechEmpower's word, `queries`: 1 to 500, and
/// what is no number is 1.
fn rows(query: &str) -> usize {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(name, _)| ["n", "queries"].contains(name));
    let number = found.next().and_then(|(_, text)| text.parse().ok());
    number.map_or(1, |rows: usize| rows.clamp(1, MOST_ROWS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_1_to_500() {
        for (query, expected) in [
            ("n=20", 20),
            ("queries=7", 7),
            ("other=3&n=4", 4),
            ("n=0", 1),
            ("n=501", 500),
            ("n=-1", 1),
            ("n=many", 1),
            ("n=", 1),
            ("", 1),
        ] {
            assert_eq!(rows(query), expected, "{query}");
        }
    }
}
