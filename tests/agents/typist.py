"""Runs a command on a pseudo-terminal and types into it: `typist.py STEPS STDIN COMMAND…`.

STEPS is a JSON list of [expect, text] or [expect, text, command]: each text is typed once what is expected was shown after
the text before it. Then the shell command is run; `$COMMAND` is the id of the process on the terminal.
The type of the terminal is `$TYPIST_TERM`, or `dumb`, and its width is `$TYPIST_COLUMNS`, or 80.
STDIN is JSON: null for the terminal, or what comes through a pipe instead. The command's stdout is this one's, what the
terminal showed goes to stderr, followed by the unread input of the terminal and of the pipe, and by the mode of the terminal.
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

# A command that waits for what is never typed ends then, so that the test shows what it waits for.
MAX_SECONDS = 300

steps, piped, command = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
# Text after the last step is an answer that the command must not wait for.
master, slave = pty.openpty()
columns = int(os.environ.get("TYPIST_COLUMNS", "80"))
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
reader = None
if piped is not None:
    reader, writer = os.pipe()
    os.write(writer, piped.encode())
    os.close(writer)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    os.dup2(slave if reader is None else reader, 0)
    os.dup2(slave, 2)
    os.closerange(3, 64)
    os.execvpe(command[0], command, {**os.environ, "TERM": os.environ.get("TYPIST_TERM", "dumb")})

shown, seen = b"", 0
ended = None
deadline = time.monotonic() + MAX_SECONDS

while ended is None or select.select([master], [], [], 0)[0]:
    if select.select([master], [], [], 0.05)[0]:
        shown += os.read(master, 65536)
    if steps and (at := shown.find(steps[0][0].encode(), seen)) >= 0:
        seen = at + len(steps[0][0])
        step = steps.pop(0)
        os.write(master, step[1].encode())
        for command_of_step in step[2:]:
            subprocess.run(command_of_step, shell=True, check=True, env={**os.environ, "COMMAND": str(pid)})
    if ended is None and time.monotonic() > deadline:
        sys.stderr.write(f"\nnever shown: {steps[:1]}\n")
        os.kill(pid, signal.SIGKILL)
    if ended is None:
        done, status = os.waitpid(pid, os.WNOHANG)
        ended = os.waitstatus_to_exitcode(status) if done else None

attributes = termios.tcgetattr(slave)
cooked = termios.ICANON | termios.ECHO | termios.ISIG
mode = "as before" if attributes[3] & cooked == cooked else "changed"
attributes[3] &= ~termios.ICANON
termios.tcsetattr(slave, termios.TCSANOW, attributes)
left = struct.unpack("i", fcntl.ioctl(slave, termios.FIONREAD, b"\0" * 4))[0]
sys.stderr.write(shown.decode(errors="replace").replace("\r\n", "\n"))
sys.stderr.write(f"\nleft on the terminal: {left} bytes\nmode of the terminal: {mode}\n")
if reader is not None:
    rest = os.read(reader, 65536).decode()
    sys.stderr.write(f"left in the pipe: {rest}\n")
sys.exit(ended)
