//! The promise: what a runtime counts arrives at the recorder of the program, by worker.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;

#[test]
fn each_number_of_each_worker_is_a_gauge() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let runtime = crore::Runtime::builder().workers(2).build().unwrap();
        crore_metrics::describe(&runtime.handle());
        let spawn = || crore::spawn(|| ()).join().unwrap();
        runtime.run(|| (0..100).for_each(|_| spawn())).unwrap();
        crore_metrics::record(&runtime.handle());
    });
    let text = rendered.render();
    let numbers: Vec<_> = crore::Metrics::default().named().collect();
    for (name, _) in &numbers {
        assert!(
            text.contains(&format!("# TYPE crore_{name} gauge\n")),
            "{name}\n{text}"
        );
        for worker in 0..2 {
            let line = format!("\ncrore_{name}{{worker=\"{worker}\"}} ");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
    let spawned: f64 = text
        .lines()
        .filter(|line| line.starts_with("crore_spawned{"))
        .map(|line| line.split(' ').nth(1).unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(spawned, 101.0, "{text}");
}

/// It ends with the test.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example that was built beside this test.
fn example_file() -> PathBuf {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop(); // deps
    folder.pop();
    folder.join("examples/prometheus")
}

fn asked(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_example_serves_them_to_prometheus() {
    let mut example = Command::new(example_file());
    let example = example.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn();
    let mut example = Example(example.unwrap());
    let mut line = String::new();
    let mut out = BufReader::new(example.0.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap();
    assert!(asked(address, "/").starts_with("HTTP/1.1 404 "));
    let text = asked(address, "/metrics");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("\nhttp_requests 2\n"), "{text}");
    assert!(text.contains("\ncrore_spawned{worker=\"0\"} "), "{text}");
    // The answer's length is what is said.
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
}
