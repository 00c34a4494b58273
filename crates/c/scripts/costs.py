#!/usr/bin/env python3
"""What a switch, a spawn with its join, and a parked coroutine cost in C and in Rust.

    crates/c/scripts/costs.py [ROUNDS]

Builds both programs (costs.c, examples/costs.rs), runs them in turns, and prints of each
figure the medians, and the median of the rounds' ratios with the least and the most. The
switch is that of a function that is called; beside it stands Rust's where the compiler has
inlined it, as it does.
"""
import os, statistics, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    subprocess.run(["cargo", "build", "-q", "--release", "-p", "crore-c", "--lib", "--example", "costs"], cwd=HERE, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", f"{HERE}/../../../target")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([f"{HERE}/link.sh", f"{target}/release", folder], check=True, stderr=subprocess.DEVNULL)
        program = f"{folder}/costs"
        libraries = ["-lgcc_s", "-lpthread", "-ldl", "-lm"]
        compile = ["cc", "-O2", f"-I{HERE}/../include", f"{HERE}/costs.c", f"{folder}/libcrore.a"]
        subprocess.run([*compile, *libraries, "-o", program], check=True, stderr=subprocess.DEVNULL)
        programs = {"rust": f"{target}/release/examples/costs", "c": program}
        results = {side: {} for side in programs}
        for _ in range(rounds):
            for side, program in programs.items():
                said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
                for line in said.splitlines():
                    name, value = line.split()
                    results[side].setdefault(name, []).append(float(value))
    results["c"]["inlined"] = results["c"]["switch"]
    units = {"switch": "ns", "inlined": "ns", "spawn": "ns", "memory": "bytes"}
    for name, unit in units.items():
        rust, c = results["rust"][name], results["c"][name]
        ratios = sorted(c / rust for c, rust in zip(c, rust))
        print(f"{name:7} Rust {statistics.median(rust):7.1f} {unit}, C {statistics.median(c):7.1f} {unit}: "
              f"{statistics.median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f})")
    print(f"load of others at the end: {os.getloadavg()[0]:.1f}")


main()
