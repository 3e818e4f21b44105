"""ENV: environment, memory, descriptors and processes of the host."""

from tests.integration.sandbox.attacks.attack import FAILED, HARMLESS, Attack, Outcome


def _do(name: str, body: str, expected: frozenset[Outcome] = FAILED) -> Attack:
    return Attack(name, "ENV", body, expected)


def _open(path: str) -> Attack:
    return _do(f"read {path}", f"return 'ESCAPED %r' % open('{path}', 'rb').read(64)")


ATTACKS = (
    _do(
        "find the host's secret in os.environ",
        """
        found = [name for name, value in os.environ.items() if NEEDLE.search(value.encode())]
        return "ESCAPED %s" % found if found else "not there"
        """,
        HARMLESS,
    ),
    _do(
        "read the environment the process was started with from its stack",
        """
        name = ctypes.c_void_p.in_dll(libc, "program_invocation_name").value
        page = name & ~4095
        words = ctypes.string_at(name, 4096 - name % 4096)
        seen = words + ctypes.string_at(page - 8192, 8192)
        return "ESCAPED" if NEEDLE.search(seen) else "not there"
        """,
        HARMLESS | {Outcome.CRASHED},
    ),
    _open("/proc/1/environ"),
    _open("/proc/self/environ"),
    _open("/proc/self/maps"),
    _open("/proc/self/mem"),
    _open("/proc/self/cmdline"),
    _open("/proc/kallsyms"),
    _open("/etc/hostname"),
    _do(
        "read the parent's environment",
        "return 'ESCAPED %r' % open('/proc/%d/environ' % os.getppid(), 'rb').read(64)",
    ),
    _do(
        "open the parent's memory",
        "return 'ESCAPED %d' % os.open('/proc/%d/mem' % os.getppid(), os.O_RDWR)",
    ),
    _do("list processes", "return 'ESCAPED ' + ','.join(os.listdir('/proc'))"),
    _do(
        "read command lines",
        """
        lines = [open("/proc/%d/cmdline" % pid).read() for pid in range(1, 400)]
        return "ESCAPED %d" % len(lines)
        """,
    ),
    _do(
        "list the open files of the process",
        "return 'ESCAPED ' + ','.join(os.listdir('/proc/self/fd'))",
    ),
    _do(
        "change a setting of the kernel",
        "open('/proc/sys/kernel/hostname', 'w').write('pwned'); return 'ESCAPED'",
    ),
    _do(
        "find the host's secret among Python's objects",
        """
        import gc
        gc.unfreeze()
        todo, found = gc.get_objects(), 0
        for item in todo:
            parts = list(item.values()) if type(item) is dict else [item]
            for part in parts:
                if type(part) is str: part = part.encode("utf-8", "replace")
                if type(part) is bytes and NEEDLE.search(part): found += 1
        return "ESCAPED %d" % found if found else "not there"
        """,
        HARMLESS,
    ),
    _do(
        "find the host's secret in the heap",
        """
        start = id(object()) & ~0xFFFFF
        seen = ctypes.string_at(start, 1 << 20)
        return "ESCAPED" if NEEDLE.search(seen) else "not there"
        """,
        HARMLESS | {Outcome.CRASHED},
    ),
    _do(
        "find open descriptors beyond its own connection",
        """
        found = channels()
        return "ESCAPED %s" % found if len(found) > 1 else "one"
        """,
        HARMLESS,
    ),
    _do(
        "import the host's program",
        """
        sys.path += [canary["code"], "/opt", "/srv"]
        import services.toolenv.service
        return "ESCAPED"
        """,
    ),
    # In tier chroot host and worker share process numbers, so these four would tell who lives.
    _do(
        "learn from the scheduler which processes exist",
        """
        return "ESCAPED %d" % os.sched_getscheduler(canary["victim"])
        """,
    ),
    _do(
        "learn from priorities which processes exist",
        "return 'ESCAPED %d' % os.getpriority(os.PRIO_PROCESS, canary['victim'])",
    ),
    _do(
        "learn from limits which processes exist",
        """
        import resource
        old = ctypes.create_string_buffer(16)
        call(302, canary["victim"], resource.RLIMIT_NOFILE, 0, old)
        return "ESCAPED %r" % old.raw
        """,
    ),
    _do(
        "learn from processor affinity which processes exist",
        "return 'ESCAPED %s' % os.sched_getaffinity(canary['victim'])",
    ),
    _do(
        "read the processor clock of another process",
        "return 'ESCAPED %f' % time.clock_gettime(~canary['victim'] << 3 | 2)",
    ),
    _do(
        "wait on the processor clock of another process",
        """
        moment = struct.pack("<qq", 0, 1000)
        call(230, ~canary["victim"] << 3 | 2, 0, moment, 0)
        return "ESCAPED"
        """,
    ),
    _do(
        "learn from the robust list of another process",
        """
        head, size = ctypes.c_void_p(), ctypes.c_size_t()
        try:
            call(274, canary["victim"], ctypes.byref(head), ctypes.byref(size))
        except OSError as error:
            there = error.errno
        try:
            call(274, 4190000, ctypes.byref(head), ctypes.byref(size))
        except OSError as error:
            missing = error.errno
        return "ESCAPED" if there != missing else "all alike"
        """,
        HARMLESS,
    ),
    _do(
        "learn from sessions which processes exist",
        "return 'ESCAPED %d' % os.getsid(canary['victim'])",
    ),
    _do(
        "learn from process groups which processes exist",
        "return 'ESCAPED %d' % os.getpgid(canary['victim'])",
    ),
)
