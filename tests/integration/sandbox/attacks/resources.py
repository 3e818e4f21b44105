"""RES: taking more time, memory, processes or output than a call may have."""

from tests.integration.sandbox.attacks.attack import ENDLESS, FAILED, STOPPED, Attack, Outcome

_LOOP_DEADLINE_S = 0.6
# On a slow machine the processor time may be used up before the memory is.
_TOO_MUCH_MEMORY = frozenset({Outcome.MEMORY_LIMIT, Outcome.CPU_LIMIT})
_TOO_MUCH_OUTPUT = frozenset({Outcome.OUTPUT_LIMIT})
_DIED = frozenset({Outcome.CRASHED})
# What CPython notices first depends on its build: the stack, the memory or neither.
_EXHAUSTED = frozenset(
    {Outcome.CRASHED, Outcome.MEMORY_LIMIT, Outcome.TOOL_ERROR, Outcome.TIMEOUT, Outcome.CPU_LIMIT}
)


def _do(name: str, body: str, expected: frozenset[Outcome], **more: object) -> Attack:
    return Attack(name, "RES", body, expected, **more)  # type: ignore[arg-type]


def _endless(name: str, body: str) -> Attack:
    return _do(name, body, ENDLESS, deadline_s=_LOOP_DEADLINE_S)


_PROCESSES = (
    _do("fork", "return 'ESCAPED %d' % os.fork()", STOPPED),
    _do("fork without libc", "return 'ESCAPED %d' % call(57)", STOPPED),
    _do("vfork", "return 'ESCAPED %d' % call(58)", STOPPED),
    _do("clone a process", "return 'ESCAPED %d' % call(56, 17, 0, 0, 0, 0)", STOPPED),
    _do(
        "fork 300 times",
        """
        made = 0
        for _ in range(300):
            if os.fork() == 0:
                time.sleep(2)
                os._exit(0)
            made += 1
        return "ESCAPED %d" % made
        """,
        STOPPED,
    ),
    _do(
        "start 500 threads",
        """
        made = 0
        try:
            for _ in range(500):
                threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
                made += 1
        except RuntimeError:
            pass
        return "ESCAPED %d" % made if made > 100 else "at most %d" % made
        """,
        frozenset({Outcome.OK, Outcome.TOOL_ERROR, Outcome.MEMORY_LIMIT}),
        is_alone=True,
    ),
    _do(
        "survive as a daemon",
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv("/bin/sleep", [canary["token"], "77"])
            os._exit(0)
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do("leave its session", "os.setsid(); return 'ESCAPED'", STOPPED),
)

_MEMORY = (
    _do(
        "take 1 GB at once",
        """
        block = bytearray(1 << 30)
        for offset in range(0, 1 << 30, 4096):
            block[offset] = 1
        return "ESCAPED"
        """,
        _TOO_MUCH_MEMORY,
    ),
    _do(
        "take memory in small pieces",
        """
        pieces = []
        while True: pieces.append([])
        """,
        _TOO_MUCH_MEMORY,
    ),
    _do(
        "map 1.5 GB",
        """
        import mmap
        views = [mmap.mmap(-1, 256 << 20) for _ in range(6)]
        for view in views:
            for offset in range(0, 256 << 20, 4096):
                view[offset] = 1
        return "ESCAPED"
        """,
        FAILED | _TOO_MUCH_MEMORY,
    ),
    _do(
        "put 1 GB into a memory file",
        """
        descriptor = os.memfd_create("x")
        for _ in range(1024): os.write(descriptor, b"x" * (1 << 20))
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do(
        "unpack a small archive into 1 GB",
        """
        import gzip
        packed = gzip.compress(bytes(16 << 20), 1) * 64
        return "ESCAPED %d" % len(gzip.decompress(packed))
        """,
        _TOO_MUCH_MEMORY,
    ),
    _do(
        "lock memory",
        """
        block = ctypes.create_string_buffer(1 << 20)
        return "ESCAPED %d" % call(149, ctypes.addressof(block), 1 << 20)
        """,
        STOPPED,
    ),
    _do(
        "raise the limit of memory",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        return "ESCAPED"
        """,
        FAILED,
    ),
    _do(
        "raise the limit of memory without libc",
        """
        unlimited = struct.pack("<QQ", (1 << 64) - 1, (1 << 64) - 1)
        return "ESCAPED %d" % call(302, 0, 9, unlimited, 0)
        """,
        STOPPED,
    ),
    _do(
        "raise the limit of memory the old way",
        """
        unlimited = struct.pack("<QQ", (1 << 64) - 1, (1 << 64) - 1)
        return "ESCAPED %d" % call(160, 9, unlimited)
        """,
        STOPPED,
    ),
    _do(
        "open 5,000 files",
        """
        opened = [os.open("/usr", os.O_RDONLY) for _ in range(5000)]
        return "ESCAPED %d" % len(opened)
        """,
        FAILED,
    ),
    _do(
        "grow the kernel's buffer of a pipe",
        """
        import fcntl
        return "ESCAPED %d" % fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)
        """,
        STOPPED,
    ),
)

_TIME = (
    _endless("loop for ever", "while True: pass"),
    _endless("compute a huge power in C", "return len(str(7 ** 10 ** 9))"),
    _endless("match a regular expression for ever", "return re.match('(a+)+$', 'a' * 60 + 'b')"),
    _endless(
        "ignore all signals and loop",
        """
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        while True: pass
        """,
    ),
    _endless(
        "block all signals and loop",
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        while True: pass
        """,
    ),
    _endless("sleep for ever", "time.sleep(1e6)"),
    _endless("stop itself", "os.kill(os.getpid(), signal.SIGSTOP); time.sleep(100)"),
    _endless("read its own connection for ever", "return os.read(channels()[0], 10)"),
    _endless(
        "loop in eight threads",
        """
        def spin():
            while True: pass
        for _ in range(8): threading.Thread(target=spin).start()
        spin()
        """,
    ),
    _endless("loop when the interpreter ends", "import atexit; atexit.register(silent); silent()"),
    _do(
        "burn processor time past its limit",
        """
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        while True: pass
        """,
        frozenset({Outcome.CPU_LIMIT}),
        deadline_s=25.0,
    ),
    _do(
        "take a real-time priority",
        """
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do(
        "take a better priority",
        "os.setpriority(os.PRIO_PROCESS, 0, -20); return 'ESCAPED'",
        STOPPED,
    ),
    _do("slow its siblings down", "os.setpriority(os.PRIO_USER, 0, 19); return 'ESCAPED'", STOPPED),
    _do("choose its processors", "os.sched_setaffinity(0, {0}); return 'ESCAPED'", STOPPED),
    _do(
        "make 1,000 timers",
        """
        timer = ctypes.c_long()
        for _ in range(1000): call(222, 1, 0, ctypes.byref(timer))
        return "ESCAPED"
        """,
        STOPPED,
    ),
)

_OUTPUT = (
    _do("print 1 GB", "for _ in range(1024): print('x' * (1 << 20))", _TOO_MUCH_OUTPUT),
    _do("print for ever", "while True: print('0123456789abcde')", _TOO_MUCH_OUTPUT),
    _do(
        "write 1 GB to descriptor 1",
        """
        for _ in range(1024): os.write(1, b"x" * (1 << 20))
        return "it goes nowhere"
        """,
        frozenset({Outcome.OK}),
    ),
    _do("return 64 MB", "return 'x' * (64 << 20)", _TOO_MUCH_OUTPUT),
    _do(
        "print past a limit that it raised itself",
        """
        sys.stdout.buffer._limit_bytes = 1 << 40
        for _ in range(64): print("x" * (1 << 20))
        return "printed"
        """,
        frozenset(
            {
                Outcome.OK,
                Outcome.CRASHED,
                Outcome.MEMORY_LIMIT,
                Outcome.OUTPUT_LIMIT,
                Outcome.TOOL_ERROR,
            }
        ),
    ),
    _do(
        "raise an error of 50 MB",
        "raise ValueError('x' * (50 << 20))",
        frozenset({Outcome.TOOL_ERROR, Outcome.MEMORY_LIMIT}),
    ),
)

_DEATH = (
    _do(
        "recurse without a limit",
        """
        sys.setrecursionlimit(10 ** 9)
        def deeper(n): return deeper(n + 1)
        return deeper(0)
        """,
        _EXHAUSTED,
        deadline_s=3.0,
    ),
    _do("parse deeply nested source", "return eval('(' * 100000)", _EXHAUSTED),
    _do("break its memory", "ctypes.string_at(0)", _DIED),
    _do("exit without a word", "os._exit(0)", _DIED),
    _do("kill itself", "os.kill(os.getpid(), signal.SIGKILL)", _DIED),
    _do("abort", "os.abort()", _DIED),
    _do("ask the interpreter to exit", "sys.exit(0)", frozenset({Outcome.TOOL_ERROR})),
    _do("raise KeyboardInterrupt", "raise KeyboardInterrupt", frozenset({Outcome.TOOL_ERROR})),
    _do(
        "divide by zero in machine code",
        """
        import mmap
        page = mmap.mmap(-1, 4096, prot=7)
        page.write(bytes.fromhex("31c9f7f1c3"))
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        return ctypes.CFUNCTYPE(ctypes.c_long)(address)()
        """,
        _DIED,
    ),
)

ATTACKS = _PROCESSES + _MEMORY + _TIME + _OUTPUT + _DEATH
