"""What one attack is, and the Python that all of them start from."""

import textwrap
from dataclasses import dataclass
from typing import Literal

from services.toolenv.sandbox import SandboxOutcome as Outcome

Group = Literal["FS", "ENV", "NET", "RES", "PRIV", "SYS", "STATE", "PROTOCOL"]

STOPPED = frozenset({Outcome.VIOLATION})
FAILED = frozenset({Outcome.VIOLATION, Outcome.TOOL_ERROR})
HARMLESS = frozenset({Outcome.OK, Outcome.VIOLATION, Outcome.TOOL_ERROR})
FORGED = frozenset({Outcome.PROTOCOL_ERROR})
ENDLESS = frozenset({Outcome.TIMEOUT})

# `canary` tells the attacker where the host's canaries are; never what they hold. `call` makes a
# system call past every Python wrapper. `NEEDLE` finds a secret without being one.
_PRELUDE = """\
import _socket, ctypes, os, re, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NEEDLE = re.compile(b"-".join((b"tw", b"canary", b"secret")) + b"-[0-9a-f]{32}")
def call(*arguments):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(*words)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
def channels():
    found = []
    for descriptor in range(3, 64):
        try: os.fstat(descriptor)
        except OSError: continue
        found.append(descriptor)
    return found
def send(data):
    for descriptor in channels():
        try: return os.write(descriptor, data)
        except OSError: pass
def frame(body): send(struct.pack("<I", len(body)) + body)
def result_frame(value="forged", **changes):
    import json
    message = {"t": "result", "outcome": "ok", "value": value, "error": "", "stdout": "",
               "cpu_s": 0.0}
    frame(json.dumps(message | changes).encode())
def silent():
    while True: time.sleep(1)
"""


@dataclass(frozen=True, slots=True)
class Attack:
    """One hostile tool.

    Attributes:
        name: Unique; what is attempted, in words.
        group: Section of the acceptance list.
        body: Body of `run(canary)`. It returns text that begins with "ESCAPED" when it got what it
            wanted; what it raises or returns otherwise means that it was stopped.
        expected: Typed outcomes that mean it was stopped.
        after: Body of `run(canary)` of another tool, called next: "ESCAPED" when it sees a trace.
        deadline_s: Of the hostile call.
        is_alone: It takes what all workers share, so nothing runs beside it.
        source: The whole source, for attacks that are not a function body.
    """

    name: str
    group: Group
    body: str
    expected: frozenset[Outcome]
    after: str = ""
    deadline_s: float = 20.0
    is_alone: bool = False
    source: str = ""

    @property
    def tool(self) -> str:
        """Source of the hostile tool."""
        return self.source or tool(self.body)


def tool(body: str) -> str:
    """A source whose function `run(canary)` has this body."""
    return f"{_PRELUDE}def run(canary):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"
