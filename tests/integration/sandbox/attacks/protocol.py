"""PROTOCOL: bytes on the worker's own connection, and results that are none."""

from tests.integration.sandbox.attacks.attack import (
    ENDLESS,
    FORGED,
    Attack,
    Outcome,
    tool,
)

_ERROR = frozenset({Outcome.TOOL_ERROR})
_TOO_LONG = FORGED | {Outcome.OUTPUT_LIMIT}


def _do(name: str, body: str, expected: frozenset[Outcome] = FORGED, **more: object) -> Attack:
    return Attack(name, "PROTOCOL", body, expected, **more)  # type: ignore[arg-type]


def _frame(name: str, body: str) -> Attack:
    return _do(f"send {name}", f"frame({body})\nsilent()")


_FRAMES = (
    _do("send a length of 4 GB", "send(b'\\xff' * 64)\nsilent()"),
    _do("send text that is no frame", "send(b'garbage, not a frame at all')\nsilent()"),
    _frame("an empty frame", "b''"),
    _frame("an empty object", "b'{}'"),
    _frame("null", "b'null'"),
    _frame("an array", "b'[1]'"),
    _frame("a number", "b'1'"),
    _frame("a second ready", 'b\'{"t":"ready"}\''),
    _frame("a failed confinement", 'b\'{"t":"failed","error":"x"}\''),
    _frame("a type that is no text", "b'{\"t\":[[[]]]}'"),
    _frame("a type of the host's own", 'b\'{"t":"job","source":""}\''),
    _frame("invalid UTF-8", "b'\\xff\\xfe'"),
    _frame("overlong UTF-8", 'b\'{"t":"\\xc0\\xaf"}\''),
    _frame("a lone surrogate", 'b\'{"t":"\\\\ud800"}\''),
    _frame("100,000 open brackets", "b'{\"t\":' + b'[' * 100000"),
    _frame("500 nested arrays", "b'{\"t\":' + b'[' * 500 + b']' * 500 + b'}'"),
    _frame("nested objects", "b'{\"t\":' * 5000 + b'1' + b'}' * 5000"),
    _frame("NaN", "b'{\"t\":NaN}'"),
    _frame("a number beyond all bounds", "b'{\"t\":1e999}'"),
    _frame("a number of 100,000 digits", "b'{\"t\":' + b'9' * 100000 + b'}'"),
    _frame("duplicate keys", 'b\'{"t":"result","t":"result"}\''),
    _frame("bytes after the object", 'b\'{"t":"result"} {}\''),
    _frame("a byte order mark", 'b\'\\xef\\xbb\\xbf{"t":"result"}\''),
    _frame("UTF-16", "'{\"t\":\"result\"}'.encode('utf-16')"),
    _frame("code a second time", 'b\'{"t":"code","code":"AAAA"}\''),
    _frame("code that is no text", 'b\'{"t":"code","code":7}\''),
    _do("claim an outcome that only the host sees", "result_frame(outcome='timeout')\nsilent()"),
    _do("claim an outcome that does not exist", "result_frame(outcome='fine')\nsilent()"),
    _do("send a result with a key too many", "result_frame(extra=1)\nsilent()"),
    _do("send a result whose texts are none", "result_frame(error=5, stdout=[])\nsilent()"),
    _do(
        "flood the host with forged requests",
        """
        request = b'{"t":"http","method":"GET","url":"http://127.0.0.1/"}'
        for _ in range(1000): frame(request)
        silent()
        """,
        FORGED | ENDLESS | {Outcome.VIOLATION, Outcome.TOOL_ERROR},
        deadline_s=3.0,
    ),
    _do("forge a result beyond its limit", "result_frame('x' * 1500000)\nsilent()", _TOO_LONG),
    _do(
        "forge a result of many empty lists",
        """
        body = b'{"t":"result","outcome":"ok","error":"","stdout":"","cpu_s":0,"value":['
        frame(body + b"[]," * 690000 + b"[]]}")
        silent()
        """,
        _TOO_LONG,
    ),
    _do("send a byte and fall silent", "send(b'\\x10')\nsilent()", ENDLESS, deadline_s=0.6),
    _do(
        "send half a frame and fall silent",
        "send(struct.pack('<I', 1000) + b'{')\nsilent()",
        ENDLESS,
        deadline_s=0.6,
    ),
    _do(
        "send half a frame and exit",
        "send(struct.pack('<I', 1000) + b'{')\nos._exit(0)",
        frozenset({Outcome.CRASHED}),
    ),
    _do(
        "close its connection and loop",
        """
        for descriptor in channels(): os.close(descriptor)
        while True: pass
        """,
        frozenset({Outcome.CRASHED}),
    ),
    _do(
        "shut its connection down and loop",
        """
        _socket.socket(fileno=channels()[0]).shutdown(_socket.SHUT_RDWR)
        while True: pass
        """,
        frozenset({Outcome.CRASHED, Outcome.VIOLATION}),
    ),
    _do(
        "send two results",
        "result_frame(1); result_frame(2)\nsilent()",
        frozenset({Outcome.OK}),
    ),
    _do(
        "send a result and then garbage for ever",
        """
        result_frame(1)
        while True: send(b"x" * 65536)
        """,
        frozenset({Outcome.OK}),
    ),
    _do(
        "write from two threads at once",
        """
        def write():
            while True: send(b"xyz")
        threading.Thread(target=write, daemon=True).start()
        write()
        """,
    ),
)

_RESULTS = (
    _do("return an object", "return object()", _ERROR),
    _do("return NaN", "return float('nan')", _ERROR),
    _do("return infinity in a list", "return [[float('-inf')]]", _ERROR),
    _do("return a lone surrogate", "return chr(0xD800)", _ERROR),
    _do("return a set", "return {1}", _ERROR),
    _do("return keys that are no text", "return {(1, 2): 3}", _ERROR),
    _do("return a generator", "return (n for n in [1])", _ERROR),
    _do("return a list that holds itself", "x = []; x.append(x); return x", _ERROR),
    _do(
        "return 100,000 nested lists",
        """
        nested = []
        for _ in range(100000): nested = [nested]
        return nested
        """,
        _ERROR,
    ),
    _do(
        "return a dictionary whose items raise",
        """
        class Hostile(dict):
            def items(self): raise SystemExit(3)
        return Hostile(a=1)
        """,
        _ERROR | {Outcome.OK},
    ),
    _do(
        "raise an error whose text raises",
        """
        class Hostile(Exception):
            def __str__(self): raise SystemExit(3)
        raise Hostile
        """,
        _ERROR,
    ),
    _do(
        "raise an error whose text never ends",
        """
        class Hostile(Exception):
            def __str__(self):
                while True: pass
        raise Hostile
        """,
        ENDLESS,
        deadline_s=0.6,
    ),
    _do(
        "raise an error whose class has a hostile name",
        """
        class Meta(type):
            __name__ = property(lambda self: 1 / 0)
        class Hostile(Exception, metaclass=Meta): pass
        raise Hostile("x")
        """,
        _ERROR | {Outcome.CRASHED},
    ),
    _do(
        "raise an error whose number is hostile",
        """
        class Hostile(OSError):
            errno = property(lambda self: 1 / 0)
        raise Hostile("x")
        """,
        _ERROR | {Outcome.CRASHED},
    ),
    _do(
        "replace the encoder of its own process",
        """
        worker = sys.modules["services.toolenv.sandbox.worker"]
        worker.encode_frame = lambda *a, **k: b"\\x02\\0\\0\\0{}"
        return 1
        """,
        FORGED | {Outcome.OK},
    ),
    _do(
        "replace the printer with an object that is none",
        "sys.stdout = sys.stderr = 7; return 1",
        frozenset({Outcome.OK, Outcome.CRASHED}),
    ),
    _do("read from the keyboard", "return input()", _ERROR),
)

_SOURCES = tuple(
    Attack(name, "PROTOCOL", "", expected, source=source)
    for name, source, expected in (
        ("a source with a null character", "def run(canary): return '\0'", _ERROR),
        ("a source that does not parse", "def run(canary:", _ERROR),
        (
            "a source of nested brackets",
            "def run(canary): return " + "(" * 5000,
            frozenset({Outcome.TOOL_ERROR, Outcome.MEMORY_LIMIT, Outcome.CRASHED}),
        ),
        (
            "a source that folds to a huge constant",
            "def run(canary): return len((1 << 100000) * ((1 << 100000) ** 20) * 'x' * 0)",
            _ERROR | {Outcome.OK, Outcome.MEMORY_LIMIT},
        ),
        (
            "a source that hangs while it is loaded",
            "while True: pass",
            frozenset({Outcome.TIMEOUT, Outcome.CPU_LIMIT}),
        ),
        (
            "a source in which run is no function",
            "run = 7",
            frozenset({Outcome.UNKNOWN_FUNCTION}),
        ),
        (
            "a source whose function is hostile when looked up",
            tool("").replace("def run(canary):", "def run_not(canary):\n    pass")
            + "class Hostile:\n    def __call__(self, canary): raise SystemExit\nrun = Hostile()",
            _ERROR,
        ),
        (
            "a source that is a lone surrogate",
            "x = '\ud800'",
            frozenset({Outcome.BAD_ARGUMENTS}),
        ),
    )
)

ATTACKS = _FRAMES + _RESULTS + _SOURCES
