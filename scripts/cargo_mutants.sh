#!/bin/bash
# Changes the sources as cargo-mutants would, one mutant at a time, and looks whether a
# test notices.
#
#   scripts/cargo_mutants.sh                           all mutants of all rooms below
#   scripts/cargo_mutants.sh --sample 60 ROOM…         60 of these rooms, drawn at random
#   scripts/cargo_mutants.sh --seed 7 --sample 60 …    others (the seed is 1 otherwise)
#   scripts/cargo_mutants.sh --only TEXT ROOM…         those whose name has the text in it
#   scripts/cargo_mutants.sh --baseline ROOM…          no mutant: what is run passes
#
# The list is `cargo mutants --list`'s, with .cargo/mutants.toml: what is left out there
# has its reason beside it. Wants cargo-mutants (`cargo install cargo-mutants`); its own
# runner would build and run everything for each mutant. Here the tests of the room come
# first, the next binary is linked only if those before it passed, and a test that failed
# has to fail again alone, what hung to hang again. What does not compile is no mutant, another is drawn for it.
#
# A binary that ends no test for QUIET seconds (45), or runs longer than LIMIT (240), hangs:
# that counts as caught, and so does one that takes more memory than GIB (6); both are said.
# The commit is what is tested, in a clone under target/cargo-mutants; what has been found
# out of it stands beside that and is not run again, so a long run can be stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec python3 - "$@" <<'PYTHON'
import argparse, collections, dataclasses, hashlib, json, os, pathlib, re, resource
import selectors, signal, subprocess, sys, tempfile, time

QUIET, LIMIT = int(os.environ.get("QUIET", 45)), int(os.environ.get("LIMIT", 240))
GIB = int(os.environ.get("GIB", 6))
HOME = pathlib.Path.cwd() / "target/cargo-mutants"
TREE = HOME / "tree"
# Nothing of the debugger's, which is most of what is linked. Tests wait more than they work.
BUILD = dict(os.environ, CARGO_TARGET_DIR=str(HOME / "target"), CARGO_PROFILE_DEV_DEBUG="0",
             CARGO_INCREMENTAL="1", RUST_TEST_THREADS="6")

# The binaries of tests for each room, those that find most first; the library's own
# tests of the room are run before them.
ROOMS = {
    "sched": "lib runtime ending threads shared sync signals faults own_locals models hook",
    "task": "lib runtime ending shared sync models own_locals",
    "stack": "lib shared models faults runtime own_locals",
    "switch": "lib shared runtime models signals own_locals faults",
    "driver": "lib models hook ending runtime faults",
    "hook": "lib hook locks threads signals own_locals faults ending models clock locks_allocator "
            "crore-run/programs",
    "sync": "sync selects lib ending runtime models",
}
# They read names of inlined functions, which only debug information has.
SKIPPED = ["dumps::those_that_do_the_same_are_one_paragraph",
           "profiles::who_computes_on_any_kind_of_stack_is_seen"]

def can_unshare():
    return subprocess.run(["unshare", "-pf", "--kill-child", "--mount-proc", "true"],
                          capture_output=True).returncode == 0

# Processes of its own where that is allowed: a mutant may send signals to the wrong ones.
APART = ["unshare", "-pf", "--kill-child", "--mount-proc", "sh", "-c", '"$@"; exit $?', "sh"]
APART = APART if can_unshare() else []

@dataclasses.dataclass
class Mutant:
    file: str
    what: str
    turn: int  # among those of the file that are called the same
    span: dict
    text: str

    @property
    def name(self):
        start = self.span["start"]
        return f"{self.file}:{start['line']}:{start['column']}: {self.what}"

    @property
    def room(self):
        return self.file.split("/")[1]

def mutants():
    listed = subprocess.run(["cargo", "mutants", "--list", "--json", "--diff", "-p", "crore"],
                            cwd=TREE, check=True, capture_output=True, text=True).stdout
    turns = collections.Counter()
    for found in json.loads(listed):
        what = re.search(r"^\+\+\+ (.*)$", found["diff"], re.M)[1]
        turns[found["file"], what] += 1
        turn = turns[found["file"], what]
        yield Mutant(found["file"], what, turn, found["span"], found["replacement"])

def place(text, point):
    lines = text.split("\n")
    return sum(len(line) + 1 for line in lines[: point["line"] - 1]) + point["column"] - 1

def plant(mutant):
    path = TREE / mutant.file
    text = path.read_text()
    start, end = (place(text, mutant.span[side]) for side in ("start", "end"))
    path.write_text(text[:start] + mutant.text + text[end:])
    return lambda: path.write_text(text)

def binary(name):
    """Builds it and says where it is; `None` if it does not compile."""
    package, _, test = name.rpartition("/")
    which = ["--lib"] if name == "lib" else [f"--test={name}"]
    if package:
        # All of it: its test runs a program and a library of it.
        which = [f"--package={package}"]
    built = subprocess.run(["cargo", "test", "-q", "--no-run", "--message-format=json", *which],
                           cwd=TREE, env=BUILD, capture_output=True, text=True)
    said = [json.loads(line) for line in built.stdout.splitlines()]
    made = [each for each in said if each.get("executable")]
    found = [each["executable"] for each in made if test in (each["target"]["name"], "lib")]
    return found[0] if built.returncode == 0 else None

def memory_of(group):
    """What the processes of the group have in memory."""
    pages = 0
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == group:
                pages += int(pathlib.Path(entry.path, "statm").read_text().split()[1])
        except (ProcessLookupError, FileNotFoundError):
            pass
    return pages * resource.getpagesize()

def run(path, words):
    """Runs tests up to the first that fails; what came of it, and that one's name."""
    skipped = [word for name in SKIPPED for word in ("--skip", name)]
    # Of its own, since the numbers of processes, which files are named by, come again.
    files = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    child = subprocess.Popen([*APART, path, *words, *skipped], cwd=TREE,
                             env=dict(BUILD, TMPDIR=files.name),
                             start_new_session=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
    start, said = time.monotonic(), b""
    heard = start
    ready = selectors.DefaultSelector()
    ready.register(child.stdout, selectors.EVENT_READ)
    try:
        while True:
            now = time.monotonic()
            if now > min(start + LIMIT, heard + QUIET):
                return "hangs", None
            if memory_of(child.pid) > GIB << 30:
                return "takes memory", None
            if not ready.select(1):
                continue
            got = os.read(child.stdout.fileno(), 1 << 16)
            said += got
            heard = now
            failed = re.search(rb"^test (\S+).* \.\.\. FAILED$", said, re.M)
            if failed:
                return "fails", failed[1].decode()
            if not got:
                break
        if child.wait() == 0:
            return "passes", None
        failed = re.search(rb"^failures:\n    (\S+)$", said, re.M)
        return ("fails", failed[1].decode()) if failed else ("crashes", None)
    finally:
        # All that it left, too.
        if child.poll() is None or not APART:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        child.wait()
        child.stdout.close()
        files.cleanup()

def notices(path, words):
    """What the tests say of what is built: `None` if they pass."""
    unsteady, hung = [], False
    while len(unsteady) < 16:
        result, test = run(path, [*words, *unsteady])
        if result == "passes":
            return None
        if result == "hangs" and not hung:
            hung = True
            continue
        if result != "fails":
            return result
        again, _ = run(path, ["--exact", test])
        if again != "passes":
            return f"{again} {test}"
        unsteady += ["--skip", test]
    sys.exit(f"too many tests that fail at times: {' '.join(unsteady)}")

def stages(room):
    yield "lib", [f"{room}::"]
    for name in ROOMS[room].split():
        yield name, []

class Known:
    """What has been found out of these sources and tests."""

    def __init__(self):
        parts = ["HEAD:src", "HEAD:tests", "HEAD:Cargo.lock"]
        trees = subprocess.run(["git", "rev-parse", *parts], cwd=TREE, check=True,
                               capture_output=True).stdout
        self.path = HOME / f"{hashlib.sha256(trees).hexdigest()[:16]}.json"
        self.results = json.loads(self.path.read_text()) if self.path.exists() else {}

    def result(self, name, find):
        if name not in self.results:
            self.results[name] = find()
            self.path.write_text(json.dumps(self.results, indent=1))
        return self.results[name]

def baseline(name):
    """Whether the tests pass without a mutant."""
    path = binary(name)
    return (notices(path, []) or "passes") if path else "does not compile"

def outcome(mutant):
    undo = plant(mutant)
    try:
        for name, words in stages(mutant.room):
            path = binary(name)
            if path is None:
                return "unviable"
            said = notices(path, words)
            if said:
                return f"caught: {name} {said}"
        return "SURVIVED"
    finally:
        undo()

def options():
    words = argparse.ArgumentParser()
    words.add_argument("--sample", type=int)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--only")
    words.add_argument("--baseline", action="store_true")
    words.add_argument("rooms", nargs="*", default=[], metavar="ROOM")
    words = words.parse_args()
    words.rooms = words.rooms or list(ROOMS)
    unknown = set(words.rooms) - set(ROOMS)
    if unknown:
        sys.exit(f"no such room: {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}")
    return words

def clone():
    """The commit, in a tree of its own; files that are the same stay as they are."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    if not TREE.exists():
        subprocess.run(["git", "clone", "-q", "--shared", "--no-checkout", ".", TREE], check=True)
    subprocess.run(["git", "checkout", "-q", "--force", "--detach", head.stdout.strip()],
                   cwd=TREE, check=True)

def say(title, results):
    caught = sum(result.startswith("caught") for result in results)
    hangs = sum("hangs" in result for result in results)
    print(f"{title}: {caught} of {len(results)} caught ({hangs} by a hang), "
          f"{100 * caught / len(results):.1f} %")

def drawn(mutant):
    """Its place in the draw; the others' change nothing of it, nor do other lines."""
    words = f"{chosen.seed} {mutant.file} {mutant.what} {mutant.turn}"
    return hashlib.sha256(words.encode()).digest()

chosen = options()
clone()
known = Known()
for name in dict.fromkeys(name for room in chosen.rooms for name in ROOMS[room].split()):
    said = known.result(f"no mutant: {name}", lambda: baseline(name))
    if said != "passes":
        sys.exit(f"without a mutant: {name} {said}")
if chosen.baseline:
    sys.exit()
pool = [mutant for mutant in mutants() if mutant.room in chosen.rooms]
pool = [mutant for mutant in pool if not chosen.only or chosen.only in mutant.name]
pool.sort(key=drawn)
print(f"{len(pool)} mutants of {' '.join(chosen.rooms)}", flush=True)
results = collections.defaultdict(list)
for mutant in pool:
    if chosen.sample and sum(map(len, results.values())) == chosen.sample:
        break
    start = time.monotonic()
    result = known.result(mutant.name, lambda: outcome(mutant))
    print(f"{time.monotonic() - start:4.0f} s  {mutant.name}\n        {result}", flush=True)
    if result != "unviable":
        results[mutant.room].append(result)
for room, found in sorted(results.items()):
    say(room, found)
if results:
    say("together", sum(results.values(), []))
PYTHON
