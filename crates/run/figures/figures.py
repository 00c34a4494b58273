"""Measures programs plainly and under `crore run`: see scripts/run_figures.sh."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

WORK = Path(sys.argv[1])
PARTS = sys.argv[2:] or ["sleepers", "echo", "http", "memcached", "mariadb"]
ROUNDS = int(os.environ.get("ROUNDS", 3))
SECONDS = os.environ.get("SECONDS_EACH", "3")
CRORE = [str(WORK.parent / "release" / "crore"), "run", "--"]
GO = WORK / "echo_go"
SERVER, LOAD = ["taskset", "-c", "0"], ["taskset", "-c", "1"]
ROWS = []

most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Server:
    """A server that ends with the block; `port` is what it prints first, or given. On the first
    processor, or `free`."""

    def __init__(self, command, port=None, cwd=None, free=False):
        out = subprocess.PIPE if port is None else subprocess.DEVNULL
        self.process = subprocess.Popen(
            ([] if free else SERVER) + command, stdout=out, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=cwd
        )
        # The last number of what it says first.
        self.port = port or int(re.findall(rb"\d+", self.process.stdout.readline())[-1])

    def __enter__(self):
        until = time.monotonic() + 60
        while isinstance(self.port, int):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                if time.monotonic() > until:
                    self.__exit__()
                    raise
                time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def said(command, limit=600):
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    return done.stdout


def median(values):
    return statistics.median(values) if values else None


def measured(part, what, contenders, once):
    """Each contender in turn, so that all have the same machine: the medians."""
    kept = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, command in contenders.items():
            kept[name].append(once(command))
    for name, results in kept.items():
        right = [result for result in results if "error" not in result]
        row = {"part": part, "what": what, "under": name, "rounds": len(right)}
        if right:
            for key in right[0]:
                values = [result[key] for result in right]
                row[key] = median(values) if isinstance(values[0], (int, float)) else values[0]
        else:
            row["error"] = results[0]["error"]
        ROWS.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)


def sleepers():
    program = str(WORK / "sleepers")
    once = lambda command: json.loads(said(command) or '{"error": "it ended"}')
    for count in ["10000", "100000"]:
        contenders = {"plain": [program, count], "crore run": CRORE + [program, count]}
        measured("sleepers", f"{count} sleeping threads", contenders, once)


def load(server, connections):
    command = LOAD + [str(WORK / "load"), str(server.port), str(connections), SECONDS, "64"]
    return json.loads(said(command + [str(server.process.pid)]) or '{"error": "the load ended"}')


def echo():
    rust, c = str(WORK / "echo_rust"), str(WORK / "echo")
    linked = str(WORK.parent / "release/examples/echo_linked")
    tokio = str(WORK.parent / "release/subject_peers")
    for connections in [100, 1000, 9000]:

        def once(command):
            with Server(command) as server:
                return load(server, connections)

        contenders = {
            "plain": [rust],
            "crore run": CRORE + [rust],
            "crore linked": [linked],
            "tokio": [tokio, "serve", "tokio"],
        }
        if GO.exists():
            contenders["Go"] = [str(GO)]
        measured("echo", f"Rust, {connections} connections", contenders, once)
        contenders = {"plain": [c], "crore run": CRORE + [c]}
        measured("echo", f"C, {connections} connections", contenders, once)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


HTTP = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        self.wfile.flush()
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 4096
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def processor(process):
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")")[-1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Use:
    """What a process has used and had at most during the block."""

    def __init__(self, process):
        self.process = process
        self.threads = 0
        self.over = threading.Event()
        self.watch = threading.Thread(target=self.look)

    def look(self):
        while not self.over.wait(0.1):
            self.threads = max(self.threads, len(os.listdir(f"/proc/{self.process}/task")))

    def __enter__(self):
        self.before = processor(self.process)
        self.watch.start()
        return self

    def __exit__(self, *_):
        self.seconds = processor(self.process) - self.before
        self.over.set()
        self.watch.join()


def wrk(url, connections, place=LOAD):
    text = said(place + ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", url])
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not found:
        return {"error": text.strip() or "wrk ended"}
    units = {"us": 1, "ms": 1000, "s": 1e6, "m": 6e7}
    late = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", text)
    row = {"requests_per_second": float(found[1])}
    row["answers"] = int(re.search(r"(\d+) requests in", text)[1])
    row["p99_us"] = float(late[1]) * units[late[2]]
    return row


def http():
    def once(command, free=False):
        port = free_port()
        with Server(command + [str(port)], port, free=free) as server:
            with Use(server.process.pid) as use:
                row = wrk(f"http://127.0.0.1:{port}/", 500, [] if free else LOAD)
            if "error" not in row:
                row["requests_per_cpu_second"] = row.pop("answers") / use.seconds
            return row

    python = ["/usr/bin/python3", "-c", HTTP]
    contenders = {"plain": python, "crore run": CRORE + python}
    measured("http", "CPython's ThreadingHTTPServer, 500 connections", contenders, once)
    # Plainly its threads pass the interpreter's lock from processor to processor then.
    what = "the same, on any processor, as its load"
    measured("http", what, contenders, lambda command: once(command, free=True))


MEMCACHED = """
import json, selectors, socket, sys, time
port, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
ask = b"".join(b"get key%d\\r\\n" % i for i in range(20))
want = sum(len(b"VALUE key%d 0 100\\r\\n" % i) + 102 + 5 for i in range(20))
first = socket.create_connection(("127.0.0.1", port))
for i in range(20):
    first.sendall(b"set key%d 0 0 100\\r\\n" % i + b"x" * 100 + b"\\r\\n")
    assert first.recv(100) == b"STORED\\r\\n"
all = selectors.DefaultSelector()
for _ in range(count):
    one = socket.create_connection(("127.0.0.1", port))
    all.register(one, selectors.EVENT_READ, [want])
    one.sendall(ask)
begun, answers = time.monotonic(), 0
while (now := time.monotonic()) < begun + seconds:
    for key, _ in all.select(1):
        key.data[0] -= len(key.fileobj.recv(65536))
        if key.data[0] == 0:
            answers += 20
            key.data[0] = want
            key.fileobj.sendall(ask)
print(json.dumps({"requests_per_second": answers / (now - begun)}))
"""


def memcached():
    def once(command):
        port = free_port()
        options = ["-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "4", "-u", "nobody"]
        with Server(command + options, port) as server:
            client = LOAD + [sys.executable, "-c", MEMCACHED, str(port), "50", SECONDS]
            with Use(server.process.pid) as use:
                row = json.loads(said(client) or '{"error": "the client ended"}')
            if "error" not in row:
                answers = row["requests_per_second"] * float(SECONDS)
                row["requests_per_cpu_second"] = answers / use.seconds
            return row

    program = [shutil.which("memcached")]
    contenders = {"plain": program, "crore run": CRORE + program}
    measured("memcached", "memcached -t 4, 50 clients, 20 keys at once", contenders, once)


class Database(Server):
    def __init__(self, command, home):
        port = free_port()
        options = [
            "/usr/sbin/mariadbd", "--no-defaults", f"--datadir={home}/data", f"--tmpdir={home}/tmp",
            f"--socket={home}/socket", f"--pid-file={home}/pid", f"--log-error={home}/log",
            "--bind-address=127.0.0.1", f"--port={port}", "--user=root", "--max-connections=20000",
            "--back-log=4000", "--open-files-limit=30000", "--skip-grant-tables",
        ]
        super().__init__(command + options, port=str(home))
        self.home, self.tcp = home, port
        until = time.monotonic() + 90
        while subprocess.run(self.client("select 1"), capture_output=True).returncode:
            if time.monotonic() > until:
                self.__exit__()
                raise TimeoutError("MariaDB does not start")
            time.sleep(0.1)

    def client(self, statement):
        return ["mariadb", "--no-defaults", f"--socket={self.home}/socket", "-e", statement]

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        finally:
            super().__exit__()


def sysbench(server, clients, seconds, action="run"):
    command = [
        "sysbench", "oltp_point_select", "--mysql-host=127.0.0.1", f"--mysql-port={server.tcp}",
        "--mysql-user=root",
        "--mysql-db=d", "--tables=1", "--table-size=10000", f"--threads={clients}",
        f"--time={seconds}", "--report-interval=0", "--db-ps-mode=disable", action,
    ]
    with Use(server.process.pid) as use:
        text = said(LOAD + command)
    found = re.search(r"queries:\s+(\d+)\s+\(([\d.]+) per sec", text)
    late = re.search(r"95th percentile:\s+([\d.]+)", text)
    if action == "run" and not found:
        return {"error": text.strip()[-200:] or "sysbench ended"}
    if not found:
        return {}
    return {
        "queries_per_second": float(found[2]),
        "queries_per_cpu_second": int(found[1]) / use.seconds,
        "p95_ms": float(late[1]),
        "kernel_threads": use.threads,
    }


def mariadb():
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        (home / "data").mkdir()
        (home / "tmp").mkdir()
        with Database([], home) as server:
            subprocess.run(server.client("create database d"), check=True)
            sysbench(server, 1, 1, "prepare")
        for clients in [16, 128, 1000, 4000, 9000]:

            def once(command):
                with Database(command, home) as server:
                    return sysbench(server, clients, max(int(SECONDS), 5 if clients > 1000 else 0))

            measured(
                "mariadb", f"point selects, {clients} clients", {"plain": [], "crore run": CRORE}, once
            )


COLUMNS = {
    "seconds": ("seconds", "{:.2f}"),
    "bytes_each": ("bytes a thread", "{:.0f}"),
    "requests_per_second": ("requests/s", "{:.0f}"),
    "requests_per_cpu_second": ("requests/s of processor time", "{:.0f}"),
    "queries_per_second": ("queries/s", "{:.0f}"),
    "queries_per_cpu_second": ("queries/s of processor time", "{:.0f}"),
    "p99_us": ("p99 µs", "{:.0f}"),
    "p95_ms": ("p95 ms", "{:.1f}"),
    "kernel_threads": ("kernel threads", "{:.0f}"),
}


def tables():
    for part in dict.fromkeys(row["part"] for row in ROWS):
        rows = [row for row in ROWS if row["part"] == part]
        columns = [key for key in COLUMNS if any(key in row for row in rows)]
        head = ["what", "under"] + [COLUMNS[key][0] for key in columns] + ["× plain"]
        used = next((key for key in columns if key.endswith("_per_cpu_second")), None)
        head += ["by processor time", "busy"] if used else []
        print("| " + " | ".join(head) + " |")
        print("|---" * len(head) + "|")
        plain = {row["what"]: row for row in rows if row["under"] == "plain"}
        for row in rows:
            cells = [row["what"], row["under"]]
            cells += [COLUMNS[key][1].format(row[key]) if key in row else "–" for key in columns]
            main = next((key for key in columns if key.endswith("_per_second")), "seconds")
            base = plain[row["what"]].get(main)
            both = row.get(main) and base
            # Of times the less is the better.
            ratio = (base / row[main] if main == "seconds" else row[main] / base) if both else None
            cells.append(f"{ratio:.2f}" if ratio else row.get("error", "–"))
            if used:
                base = plain[row["what"]].get(used)
                cells.append(f"{row[used] / base:.2f}" if base and used in row else "–")
                cells.append(f"{row[main] / row[used]:.2f}" if row.get(used) else "–")
            print("| " + " | ".join(cells) + " |")
        print()


begun = os.getloadavg()[0]
for part in PARTS:
    globals()[part]()
out = {"load_before": begun, "processors": os.cpu_count(), "rows": ROWS}
(WORK.parent / "run_figures.json").write_text(json.dumps(out, indent=1) + "\n")
tables()
print(f"Medians of {ROUNDS} rounds in turn. The machine's load was {begun:.1f} before.")
