#!/usr/bin/env python3
"""libco's example_echosvr, linked with libco and with crore, under the same load.

    crates/c/scripts/libco.sh --keep BUILDS
    crates/c/scripts/echo_load.py BUILDS [SECONDS [CONNECTIONS ...]]

The client is echo_clients.c, on another processor: a loop without coroutines, that costs
about as much for an answer as the kernel does for either side. The servers take turns. Of
each number of connections it prints the medians of answers a second, of answers for a second
of the server's processor time (which others on the machine, and a client that is too slow,
change little), and the processor time that the server takes without a connection.
"""
import os, resource, signal, statistics, subprocess, sys, tempfile, time
from contextlib import contextmanager

TICKS = os.sysconf("SC_CLK_TCK")
ROUNDS = int(os.environ.get("ROUNDS", 5))
HERE = os.path.dirname(os.path.abspath(__file__))


def cpu(group):
    """Processor seconds of a group's processes."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


@contextmanager
def started(processor, *command):
    """A process in a group of its own, which ends with the block, however that is left."""
    command = ["taskset", "-c", str(processor), *map(str, command)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def next_line(process, of):
    line = process.stdout.readline()
    assert line, f"{of} has ended: {process.wait()}"
    return line.strip()


def measure(builds, clients, side, connections, seconds, port):
    server_of = [f"{builds}/{side}/example_echosvr", "127.0.0.1", port, connections + 10, 1]
    with started(0, *server_of) as server:
        next_line(server, side)
        time.sleep(1)
        before = cpu(server.pid)
        time.sleep(2)
        idle = (cpu(server.pid) - before) / 2
        with started(1, clients, port, connections, seconds + 1) as client:
            next_line(client, "the client")
            next_line(client, "the client")  # a second to get warm
            before, begun = cpu(server.pid), time.time()
            answers = sum(int(next_line(client, "the client")) for _ in range(seconds))
            used, lasted = cpu(server.pid) - before, time.time() - begun
    return answers / lasted, answers / used, idle


def main():
    builds = os.path.abspath(sys.argv[1])
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    port = 31000
    print(f"load of others at the start: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        clients = f"{folder}/echo_clients"
        subprocess.run(["cc", "-O2", f"{HERE}/echo_clients.c", "-o", clients], check=True)
        for connections in [int(one) for one in sys.argv[3:]] or (100, 1000, 9000):
            results = {"theirs": [], "ours": []}
            for _ in range(ROUNDS):
                for side in results:
                    port += 1
                    results[side].append(measure(builds, clients, side, connections, seconds, port))
            medians = {side: [statistics.median(of) for of in zip(*all)] for side, all in results.items()}
            for side, (rate, work, idle) in medians.items():
                print(f"{connections:5} {side:7} {rate:8.0f} answers/s {work:9.0f} a processor second, idle {idle:.1%}")
            for index, unit in enumerate(("answers/s", "a processor second")):
                ratios = sorted(ours[index] / theirs[index] for ours, theirs in zip(results["ours"], results["theirs"]))
                middle = statistics.median(ratios)
                print(f"{connections:5} ours/theirs {middle:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) {unit}", flush=True)


main()
