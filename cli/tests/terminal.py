"""Drives Maxwell at a terminal, as a person does. Prints each step; the first that fails ends it with a traceback.

    python3 terminal.py MAXWELL
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

MAXWELL = sys.argv[1]
PATIENCE = 15
started = []


class Terminal:
    """A program at a terminal of its own, in a session of its own."""

    def __init__(self, *words):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvp(words[0], words)
        started.append(self.pid)
        self.heard = b""

    def type(self, text):
        os.write(self.terminal, text)

    def hears(self, word):
        """Reads until `word`, and what was written before it."""
        until = time.monotonic() + PATIENCE
        while word not in self.heard:
            assert time.monotonic() < until, f"no {word!r} in {self.heard!r}"
            if select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    self.heard += os.read(self.terminal, 65536)
                except OSError:  # The other end is closed.
                    break
        assert word in self.heard, f"no {word!r} in {self.heard!r}"
        before, _, self.heard = self.heard.partition(word)
        return before

    def ends(self):
        """The exit code, and all that it still wrote."""
        until = time.monotonic() + PATIENCE
        while True:
            if select.select([self.terminal], [], [], 0.02)[0]:
                try:
                    self.heard += os.read(self.terminal, 65536)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                started.remove(self.pid)
                os.close(self.terminal)
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < until, f"it does not end: {self.heard!r}"


def maxwell(*words, options=()):
    return Terminal(MAXWELL, "exec", "--budget", "200J", *options, "--", *words)


def fields(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def children(pid):
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = []
    for number in numbers:
        try:
            if int(fields(number)[1]) == pid:
                found.append(number)
        except OSError:
            pass
    return found


def core_ticks(pid):
    return sum(int(ticks) for ticks in fields(pid)[11:13])


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


COUNTS = """
import sys, time
n = 0
while True:
    try:
        if n == 0: print("up", flush=True)
        while n == 0: time.sleep(0.01)
        time.sleep(0.7); sys.exit(40 + n)
    except KeyboardInterrupt:
        n += 1
"""


def a_shell_is_interactive():
    shell = maxwell("sh", "-i")
    shell.hears(b"# ")
    shell.type(b"echo $((6 * 7)); test -t 0 && tty\n")
    shell.hears(b"\n42\r\n/dev/pts/")
    shell.type(b"sleep 50\n")
    time.sleep(0.3)
    shell.type(b"\x03")
    shell.hears(b"# ")
    shell.type(b"echo still $((1 + 1))\n")
    shell.hears(b"still 2")
    shell.type(b"exit 5\n")
    assert shell.ends() == 5


def an_interrupt_is_heard_once():
    program = maxwell("python3", "-c", COUNTS)
    program.hears(b"up")
    program.type(b"\x03")
    code = program.ends()
    assert code == 41, (code, program.heard)


def an_interrupt_is_heard_by_who_has_a_session_of_its_own():
    # With a pipe for input it is no part of the terminal's foreground group.
    program = Terminal("sh", "-c", 'sleep 100 | "$0" exec --budget 200J -q -- python3 -c "$1"; exit $?', MAXWELL, COUNTS)
    program.hears(b"up")
    # The shell waits for `sleep` and for us; Ctrl-C ends `sleep`, and the shell when we have ended.
    program.type(b"\x03")
    program.ends()
    # That the program came to its end by itself shows what it heard.
    program = Terminal("bash", "-c", 'trap : INT; sleep 100 | "$0" exec --budget 200J -q -- python3 -c "$1"; echo code ${PIPESTATUS[1]}', MAXWELL, COUNTS)
    program.hears(b"up")
    program.type(b"\x03")
    program.hears(b"code 41")
    program.ends()


def the_second_interrupt_ends_who_ignores_the_first():
    program = maxwell("sh", "-c", "trap '' INT TERM; echo up; while :; do sleep 0.1; done", options=("--grace", "200ms"))
    program.hears(b"up")
    program.type(b"\x03")
    time.sleep(0.4)
    assert fields(program.pid)[0] != "Z"
    program.type(b"\x03")
    code = program.ends()
    assert code == 137, (code, program.heard)


def control_z_suspends_and_fg_goes_on():
    shell = Terminal("bash", "--norc", "--noediting", "-i")
    shell.type(b"PS1='rea''dy> '\n")
    shell.hears(b"ready> ")
    line = f"{MAXWELL} exec --budget 200J -q -- sh -c 'echo u\"\"p; while :; do :; done'\n"
    shell.type(line.encode())
    shell.hears(b"up\r\n")
    [ours] = children(shell.pid)
    program = max(children(ours))
    for _ in range(2):
        shell.type(b"\x1a")
        shell.hears(b"Stopped")
        shell.hears(b"ready> ")
        assert fields(ours)[0] == "T", fields(ours)[0]
        before = core_ticks(program)
        time.sleep(0.5)
        assert core_ticks(program) == before, "it runs although it is suspended"
        shell.type(b"fg\n")
        until("it does not go on", lambda: core_ticks(program) > before)
    shell.type(b"\x03")
    shell.hears(b"ready> ")
    shell.type(b"echo code $?; exit 0\n")
    shell.hears(b"code 130")
    assert shell.ends() == 0


def a_new_size_is_heard():
    program = maxwell(
        "python3",
        "-c",
        "import os, signal, time\n"
        "def size(*_): print('wide', os.get_terminal_size().columns, flush=True); os._exit(0)\n"
        "signal.signal(signal.SIGWINCH, size); print('up', flush=True)\n"
        "while True: time.sleep(0.1)",
    )
    program.hears(b"up")
    fcntl.ioctl(program.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 123, 0, 0))
    program.hears(b"wide 123")
    assert program.ends() == 0


try:
    for step in (
        a_shell_is_interactive,
        an_interrupt_is_heard_once,
        an_interrupt_is_heard_by_who_has_a_session_of_its_own,
        the_second_interrupt_ends_who_ignores_the_first,
        control_z_suspends_and_fg_goes_on,
        a_new_size_is_heard,
    ):
        step()
        print(step.__name__, flush=True)
finally:
    for pid in started:
        os.kill(pid, signal.SIGKILL)
