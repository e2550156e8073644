"""Drives one long run of kapell over six agents with random faults, and watches what it costs while it lasts.

Prints a table with a line for each tenth of the time, and fails when throughput falls, or when memory, descriptors,
threads or children grow without bound. Needs Linux and a release build.

    KAPELL_SOAK_SECONDS=300 python3 benches/soak/run.py
"""

import collections
import json
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AGENT = Path(__file__).with_name("agent.py")
KAPELL = Path(os.environ.get("KAPELL", ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "kapell"))
SECONDS = int(os.environ.get("KAPELL_SOAK_SECONDS", "300"))
SEED = int(os.environ.get("KAPELL_SOAK_SEED", time.time()))
WINDOW = max(SECONDS / 10, 1)
# Time for the start of the run, before the first window.
STARTUP_SECONDS = 5
# The most attempts at once on one agent.
CONCURRENCY = 8
# Attempts that may fail beyond what an agent completes: those in flight at first, and one for each of its rests, which
# double.
ALLOWANCE = CONCURRENCY + 12
# The events and the result of a finished task stay in memory to the end of the run; more than this is a leak.
BYTES_PER_TASK = 2048
# A run holds so much beside its tasks, whatever it does.
SLACK_BYTES = 16 << 20


class Flapping:
    """An HTTP agent that is killed and started again, at random."""

    def __init__(self, dice, arguments, up, down):
        self.dice, self.up, self.down = dice, up, down
        self.port = free_port()
        self.command = [sys.executable, str(AGENT), "--http", str(self.port), *arguments]
        self.ending = threading.Event()
        self.process = subprocess.Popen(self.command)
        self.starts = 1
        self.thread = threading.Thread(target=self.flap) if up else None
        if self.thread:
            self.thread.start()

    def flap(self):
        while not self.ending.wait(self.up * self.dice.uniform(0.5, 1.5)):
            self.process.kill()
            self.process.wait()
            if not self.ending.wait(self.down * self.dice.uniform(0.5, 1.5)):
                self.process = subprocess.Popen(self.command)
                self.starts += 1

    def end(self):
        self.ending.set()
        if self.thread:
            self.thread.join()
        self.process.kill()
        self.process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def agents_file(stdio, http):
    sections = []
    for name, arguments in stdio.items():
        arguments = [str(AGENT), *arguments]
        sections.append(f"[agents.{name}]\ncommand = {json.dumps(sys.executable)}\nargs = {json.dumps(arguments)}\n")
    for name, agent in http.items():
        sections.append(f'[agents.{name}]\nurl = "http://127.0.0.1:{agent.port}/mcp"\n')
    common = f'capabilities = {{ work = "work" }}\nmax_concurrency = {CONCURRENCY}\nstartup_timeout = "5s"\n'
    return "\n".join(section + common for section in sections)


PLAN = f"""name: soak
defaults:
  effect: read_only
  on_failure: continue
  timeout: 3s
  retry: {{ max_attempts: 4, backoff: {{ kind: exponential, initial: 50ms, max: 500ms }} }}
max_parallel: {6 * CONCURRENCY}
budget: {{ time: {SECONDS + STARTUP_SECONDS}s }}
tasks:
  - {{ id: each, foreach: "${{{{ range(100000) }}}}", as: n, capability: work, with: {{ n: "${{{{ n }}}}" }} }}
"""


class Events:
    """Counts what the run prints, from a thread of its own."""

    def __init__(self, output):
        self.succeeded = self.failed = self.tasks_failed = 0
        self.status = None
        self.on = {}
        self.shares = collections.defaultdict(lambda: [0, 0])
        self.thread = threading.Thread(target=self.read, args=(output,))
        self.thread.start()

    def read(self, output):
        for line in output:
            event = json.loads(line)
            kind = event["type"]
            if kind == "attempt_started":
                self.on[event["attempt"]["task"]] = event["agent"]
            elif kind == "attempt_succeeded":
                self.shares[self.on.pop(event["attempt"]["task"])][0] += 1
                self.succeeded += 1
            elif kind == "attempt_failed":
                agent = self.on.pop(event["attempt"]["task"])
                # The end of the run cancels what is under way.
                if event["failure"]["kind"] != "cancelled":
                    self.shares[agent][1] += 1
                    self.failed += 1
            elif kind == "task_ended" and "failed" in event["outcome"] and event["task"] != "each":
                self.tasks_failed += 1
            elif kind == "run_ended":
                self.status = event["status"]


def sample(pid):
    """What the process uses now: resident bytes, descriptors, threads, children."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return int(status["VmRSS"].split()[0]) * 1024, descriptors, int(status["Threads"]), children


def watch(process, events):
    """Samples the process from its first task until the run ends; one line for each window."""
    windows, children = [], set()
    while not events.succeeded and process.poll() is None:
        time.sleep(0.05)
    start = time.monotonic()
    ends, before, peak = WINDOW, (0, 0), (0, 0, 0, 0)
    while process.poll() is None and len(windows) < 10 and not events.status:
        time.sleep(0.25)
        try:
            memory, descriptors, threads, pids = sample(process.pid)
        except (OSError, KeyError):
            break
        children.update(pids)
        peak = tuple(map(max, peak, (memory, descriptors, threads, len(pids))))
        if time.monotonic() - start >= ends:
            now = (events.succeeded, events.failed)
            done, failed = now[0] - before[0], now[1] - before[1]
            windows.append((ends, done, failed, *peak, now[0]))
            print(line(windows[-1]), flush=True)
            ends, before, peak = ends + WINDOW, now, (0, 0, 0, 0)
    return windows, children


HEADER = """| until | tasks per second | failed attempts | MiB | descriptors | threads | children |
|--:|--:|--:|--:|--:|--:|--:|"""


def line(window):
    ends, done, failed, memory, descriptors, threads, children, _ = window
    rate = done / WINDOW
    return f"| {ends:.0f} s | {rate:.0f} | {failed} | {memory / 2**20:.0f} | {descriptors} | {threads} | {children} |"


def judge(windows, events, code):
    """Gives what is wrong."""
    problems = []
    # 5: the budget of time is spent, as it is meant to be.
    if code != 5:
        problems.append(f"exit code {code} instead of 5 (`budget.time` is spent); -9: it did not end by itself")
    if len(windows) < 6:
        return [*problems, f"only {len(windows)} windows of ten"]
    third = len(windows) // 3
    first, last = windows[:third], windows[-third:]
    done = [sum(window[1] for window in part) for part in (first, last)]
    if done[1] * 2 < done[0]:
        problems.append(f"throughput fell: {done[0]} tasks in the first third, {done[1]} in the last")
    for column, what, slack in ((4, "descriptors", 16), (5, "threads", 8), (6, "children", 3)):
        most = [max(window[column] for window in part) for part in (first, last)]
        if most[1] > most[0] * 3 // 2 + slack:
            problems.append(f"{what} grow: up to {most[0]} in the first third, up to {most[1]} in the last")
    grown, tasks = windows[-1][3] - first[-1][3], windows[-1][7] - first[-1][7]
    if grown > SLACK_BYTES + tasks * BYTES_PER_TASK:
        problems.append(f"memory grows: {grown >> 20} MiB more for {tasks} tasks")
    for agent, (succeeded, failed) in sorted(events.shares.items()):
        if failed > succeeded + ALLOWANCE:
            problems.append(f"agent `{agent}` failed {failed} attempts and completed {succeeded}")
    if events.tasks_failed * 100 > events.succeeded:
        problems.append(f"{events.tasks_failed} tasks failed permanently")
    return problems


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids):
    """Returns the processes that are alive ten seconds after the host: the guard ends them once the host is gone."""
    limit = time.monotonic() + 10
    while (remaining := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < limit:
        time.sleep(0.05)
    return remaining


def main():
    if not KAPELL.exists():
        sys.exit(f"error: `{KAPELL}` does not exist; run `cargo build --release`, or name a program in `KAPELL`")
    print(f"{SECONDS} s, KAPELL_SOAK_SEED={SEED}, {os.cpu_count()} processors, {platform.system()} {platform.machine()}")
    dice = random.Random(SEED)
    seeds = [["--seed", str(dice.randrange(1, 1 << 30))] for _ in range(6)]
    stdio = {
        "steady": seeds[0],
        "dying": ["--deaths", "0.002", *seeds[1]],
        "erring": ["--errors", "0.2", *seeds[2]],
    }
    http = {
        "calm": Flapping(dice, seeds[3], None, None),
        "flapping": Flapping(dice, seeds[4], 6, 2),
        "hanging": Flapping(dice, ["--hangs", "0.005", "--errors", "0.02", *seeds[5]], None, None),
    }
    folder = Path(tempfile.mkdtemp(prefix="kapell-soak-"))
    try:
        for agent in http.values():
            wait_for_port(agent.port)
        (folder / "plan.yaml").write_text(PLAN)
        (folder / "agents.toml").write_text(agents_file(stdio, http))
        journal = folder / "journal.db"
        command = [KAPELL, "run", "plan.yaml", "--agents", "agents.toml", "--journal", journal, "--no-input"]
        environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
        with open(folder / "talk", "wb") as talk:
            process = subprocess.Popen(
                [*command, "--output", "stream-json"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=talk,
            )
        events = Events(process.stdout)
        print(HEADER, flush=True)
        windows, children = watch(process, events)
        try:
            code = process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        events.thread.join()
        problems = judge(windows, events, code)
        remaining = wait_until_gone(children)
        if remaining:
            problems.append(f"processes outlive the run: {', '.join(remaining)}")
        shares = ", ".join(f"{agent} {done}/{failed}" for agent, (done, failed) in sorted(events.shares.items()))
        print(f"\n{events.succeeded} tasks done, {events.tasks_failed} failed permanently, {events.failed} attempts failed")
        print(f"completed/failed by agent: {shares}")
        print(f"{len(children)} processes started, {http['flapping'].starts} starts of the flapping agent")
        print(f"journal: {journal.stat().st_size / 2**20:.0f} MiB")
        if code != 5:
            print((folder / "talk").read_text()[-2000:], file=sys.stderr)
    finally:
        for agent in http.values():
            agent.end()
        shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


def wait_for_port(port):
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)


if __name__ == "__main__":
    main()
