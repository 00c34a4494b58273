//! Tools as Debian has them.

use std::fs;
use std::path::Path;

use crate::{Folder, same};

/// A few megabytes that compress somewhat.
fn sample() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..6 << 20)
        .map(|i| if i % 3 == 0 { next() } else { b'x' })
        .collect()
}

#[test]
fn xz_and_zstd_compress_with_threads() {
    let folder = Folder::new("xz");
    let input = folder.file("input");
    fs::write(&input, sample()).unwrap();
    let input = input.to_str().unwrap();
    for (tool, args) in [
        ("xz", ["-T4", "-1", "--block-size=1MiB", "-kc"].as_slice()),
        ("zstd", &["-T4", "-5", "-qkc"]),
    ] {
        let sh = Path::new("/bin/sh");
        let script = format!("exec {tool} {} \"$0\" | sha256sum", args.join(" "));
        let text = same(sh, &["-c", &script, input]);
        assert!(text.len() > 64, "{text}");
    }
}

#[test]
fn cpython_has_its_threads() {
    let script = r#"
import queue, socket, threading, time
from concurrent.futures import ThreadPoolExecutor
local = threading.local()
lock, total, seen = threading.Lock(), 0, []
def work(number):
    global total
    local.number = number
    time.sleep(0.01)
    with lock:
        total += local.number
threads = [threading.Thread(target=work, args=(i,)) for i in range(300)]
for t in threads: t.start()
for t in threads: t.join()
print(total, threading.active_count(), threading.current_thread().name)
with ThreadPoolExecutor(50) as pool:
    print(sum(pool.map(lambda n: n * n, range(1000))))
q, done = queue.Queue(3), threading.Event()
def consume():
    while (item := q.get()) is not None: seen.append(item)
    done.set()
threading.Thread(target=consume).start()
for i in list(range(100)) + [None]: q.put(i)
print(done.wait(60), sum(seen))
barrier = threading.Barrier(20)
with ThreadPoolExecutor(20) as pool:
    print(sorted(pool.map(lambda _: barrier.wait(), range(20))))
condition, ready = threading.Condition(), []
def waits(i):
    with condition:
        condition.wait_for(lambda: ready, 60)
        return i
with ThreadPoolExecutor(10) as pool:
    futures = [pool.submit(waits, i) for i in range(10)]
    time.sleep(0.05)
    with condition:
        ready.append(1)
        condition.notify_all()
    print([f.result() for f in futures])
server = socket.create_server(("127.0.0.1", 0))
def serve(peer):
    with peer:
        while data := peer.recv(100): peer.sendall(data)
def accept():
    for _ in range(50):
        peer, _ = server.accept()
        threading.Thread(target=serve, args=(peer,)).start()
threading.Thread(target=accept).start()
def client(i):
    with socket.create_connection(server.getsockname()) as c:
        for turn in range(10):
            c.sendall(b"%d" % i)
            assert c.recv(100) == b"%d" % i
    return i
with ThreadPoolExecutor(50) as pool:
    print(sum(pool.map(client, range(50))))
"#;
    let text = same("/usr/bin/python3", &["-c", script]);
    assert!(
        text.starts_with("44850 1 MainThread\n332833500\nTrue 4950\n"),
        "{text}"
    );
}

#[test]
fn cpythons_http_server_serves() {
    let script = r#"
import http.client, http.server, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever).start()
right = []
def client(number):
    connection = http.client.HTTPConnection(*server.server_address)
    for turn in range(20):
        path = f"/{number}/{turn}"
        connection.request("GET", path)
        right.append(connection.getresponse().read() == path.encode())
    connection.close()
clients = [threading.Thread(target=client, args=(i,)) for i in range(30)]
for c in clients: c.start()
for c in clients: c.join()
server.shutdown()
print(len(right), all(right))
"#;
    assert_eq!(same("/usr/bin/python3", &["-c", script]), "600 True\n");
}
