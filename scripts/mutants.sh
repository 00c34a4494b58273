#!/bin/bash
# Plants bugs by hand, one at a time, and looks whether a test catches each.
#
#   scripts/mutants.sh               all of tests/mutants; prints each and the rate
#   scripts/mutants.sh NAME…         these
#   scripts/mutants.sh --quick [N]   every N-th (16), another start each day
#
# A file of tests/mutants says what is wrong in its first lines, then:
#
#   file: the source file
#   test: what `cargo test` is asked for; it must fail
#   loom                              (that is a model; or shuttle: a scenario)
#   <<<<<<<
#   the text there, once
#   =======
#   what stands in its place
#   >>>>>>>
#
# The test must pass without the bug. With it the test fails, or is stopped after
# LIMIT seconds (120), which counts as well and is said: a lost wake-up ends nowhere.
# Works on a copy of the checkout under target/mutants.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
LIMIT=${LIMIT-120} exec python3 - "$@" <<'PYTHON'
import datetime, os, pathlib, re, shlex, shutil, subprocess, sys

ROOT = pathlib.Path.cwd()
TREE = ROOT / "target/mutants/tree"
LIMIT = int(os.environ["LIMIT"])

def parse(path):
    text = path.read_text()
    head, rest = text.split("\n<<<<<<<\n")
    old, rest = rest.split("\n=======\n")
    new = rest.split("\n>>>>>>>")[0] if not rest.startswith(">>>>>>>") else ""
    file = re.search(r"^file: (.*)$", head, re.M)[1]
    test = re.search(r"^test: (.*)$", head, re.M)[1]
    model = re.search(r"^(loom|shuttle)$", head, re.M)
    model = model and model[1]
    return path.stem, head.split("\nfile:")[0].replace("\n", " "), file, test, model, old, new

def chosen(words):
    every = sorted((ROOT / "tests/mutants").glob("*.txt"))
    if words[:1] == ["--quick"]:
        step = int(words[1]) if words[1:] else 16
        return every[datetime.date.today().toordinal() % step :: step]
    unknown = set(words) - {path.stem for path in every}
    if unknown:
        sys.exit(f"no such mutant: {', '.join(sorted(unknown))}")
    return [path for path in every if not words or path.stem in words]

def copy_tree():
    """The files that git knows, as they are here; those that are the same stay as
    they are, so that nothing is built in vain."""
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True)
    wanted = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    for name in wanted:
        source, copy = ROOT / name, TREE / name
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    for path in list(TREE.rglob("*")):
        if path.is_file() and str(path.relative_to(TREE)) not in wanted:
            path.unlink()

def cargo(test, model, more=(), limit=None):
    environment = dict(os.environ, CARGO_TARGET_DIR=str(ROOT / "target"))
    words = shlex.split(test)
    at = words.index("--") if "--" in words else len(words)
    command = ["cargo", "test", "-q", *words[:at], *more, *words[at:]]
    if model:
        environment["CARGO_TARGET_DIR"] = str(ROOT / "target" / model)
        checks = " -C debug_assertions" if model == "loom" else ""
        environment["RUSTFLAGS"] = f"--cfg {model}{checks}"
        command.insert(3, "--release")
    if limit:
        # In a group of its own, which ends with it, children included.
        command = ["timeout", "--kill-after=5", str(limit), *command]
    done = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr

def built(test, model):
    code, said = cargo(test, model, ["--no-run"])
    return code == 0, said

def passes(test, model):
    """Whether the test is there and passes; and why not."""
    ok, said = built(test, model)
    if ok:
        code, said = cargo(test, model, limit=10 * LIMIT)
        ran = sum(int(n) for n in re.findall(r"^running (\d+) tests?$", said, re.M))
        ok = code == 0 and ran > 0
    return ok, said

def plant(file, old, new):
    path = TREE / file
    text = path.read_text()
    if text.count(old) != 1:
        sys.exit(f"{file} has the text {text.count(old)} times instead of once:\n{old}")
    path.write_text(text.replace(old, new))
    return lambda: path.write_text(text)

def outcome(file, test, model, old, new):
    undo = plant(file, old, new)
    try:
        ok, said = built(test, model)
        if not ok:
            sys.exit(f"does not compile:\n{said}")
        code, said = cargo(test, model, limit=LIMIT)
    finally:
        undo()
    if code == 0:
        return "SURVIVED"
    return "hangs" if code in (124, 137) else "caught"

paths = chosen(sys.argv[1:])
assert paths, "no mutants"
copy_tree()
survivors, sound = [], set()
for name, what, file, test, model, old, new in map(parse, paths):
    if (test, model) not in sound:
        ok, said = passes(test, model)
        if not ok:
            sys.exit(f"{name}: fails without the bug, or runs nothing: cargo test {test}\n{said}")
        sound.add((test, model))
    result = outcome(file, test, model, old, new)
    print(f"{result:8}  {name}: {what}", flush=True)
    if result == "SURVIVED":
        survivors.append(name)
print(f"{len(paths) - len(survivors)} of {len(paths)} caught")
if survivors:
    sys.exit(f"no test fails for: {', '.join(survivors)}")
PYTHON
