"""Runs a command on a pseudo-terminal, which is all of its standard streams, and types into it: `session.py STEPS COMMAND…`.

STEPS is a JSON list of [expect, text] or [expect, text, command]: each text is typed once what is expected was shown after
the text before it. Then the shell command is run; `$COMMAND` is the id of the process on the terminal. What the terminal
showed, without control sequences, goes to stdout. SESSION_TERM and SESSION_COLUMNS describe the terminal. The exit code is that of the command, or 99 if a step was never reached.
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

# For a machine that is very slow.
DEADLINE = time.monotonic() + 300
TERM = os.environ.get("SESSION_TERM", "xterm")
COLUMNS = int(os.environ.get("SESSION_COLUMNS", "100"))
CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[=>]|\r")

steps, command = json.loads(sys.argv[1]), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvpe(command[0], command, {**os.environ, "TERM": TERM})
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))

received, seen, shown = b"", 0, ""
while time.monotonic() < DEADLINE:
    if select.select([terminal], [], [], 0.05)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        received += data
        shown = CONTROL_SEQUENCE.sub("", received.decode(errors="replace"))
    if steps and (at := shown.find(steps[0][0], seen)) >= 0:
        seen = at + len(steps[0][0])
        step = steps.pop(0)
        os.write(terminal, step[1].encode())
        for command_of_step in step[2:]:
            subprocess.run(command_of_step, shell=True, check=True, env={**os.environ, "COMMAND": str(pid)})
else:
    os.kill(pid, 9)
sys.stdout.write(shown)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
if steps:
    sys.stdout.write(f"\nnever shown: {steps[0][0]!r}\n")
    status = 99
sys.exit(status if status >= 0 else 128 - status)
