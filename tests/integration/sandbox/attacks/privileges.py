"""PRIV: other processes, other users, other programs, other namespaces."""

from tests.integration.sandbox.attacks.attack import FAILED, STOPPED, Attack, Outcome


def _do(name: str, body: str, expected: frozenset[Outcome] = STOPPED) -> Attack:
    return Attack(name, "PRIV", body, expected)


_MACHINE_CODE = """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex("%s"))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
"""

ATTACKS = (
    _do("trace the parent", "return 'ESCAPED %d' % call(101, 16, os.getppid(), 0, 0)"),
    _do("seize the parent", "return 'ESCAPED %d' % call(101, 0x4206, os.getppid(), 0, 0)"),
    _do("be traced", "return 'ESCAPED %d' % call(101, 0, 0, 0, 0)"),
    _do(
        "read the parent's memory",
        """
        buffer = ctypes.create_string_buffer(8)
        local = struct.pack("<QQ", ctypes.addressof(buffer), 8)
        remote = struct.pack("<QQ", id(call) & ~7, 8)
        return "ESCAPED %d" % call(310, os.getppid(), local, 1, remote, 1, 0)
        """,
    ),
    _do(
        "write the parent's memory",
        """
        buffer = ctypes.create_string_buffer(8)
        local = struct.pack("<QQ", ctypes.addressof(buffer), 8)
        remote = struct.pack("<QQ", id(call) & ~7, 8)
        return "ESCAPED %d" % call(311, os.getppid(), local, 1, remote, 1, 0)
        """,
    ),
    _do("kill a process of the host", "os.kill(canary['victim'], 9); return 'ESCAPED'"),
    _do("kill its parent", "os.kill(os.getppid(), 9); return 'ESCAPED'"),
    _do("stop its parent", "os.kill(os.getppid(), 19); return 'ESCAPED'"),
    _do("kill everybody", "os.kill(-1, 9); return 'ESCAPED'"),
    _do("kill its process group", "os.kill(0, 9); return 'ESCAPED'"),
    _do(
        "kill its siblings",
        """
        denied = None
        for pid in range(os.getpid() - 20, os.getpid() + 20):
            if pid > 1 and pid != os.getpid():
                try: os.kill(pid, 9)
                except ProcessLookupError: continue
                except PermissionError as error:
                    denied = error
                    continue
                return "ESCAPED"
        raise denied
        """,
    ),
    _do(
        "kill a thread of its parent",
        "return 'ESCAPED %d' % call(234, os.getppid(), os.getppid(), 9)",
    ),
    _do("kill a thread by number", "return 'ESCAPED %d' % call(200, os.getppid(), 9)"),
    _do(
        "queue a signal to its parent",
        "return 'ESCAPED %d' % call(129, os.getppid(), 9, bytes(128))",
    ),
    _do("get a handle of its parent", "return 'ESCAPED %d' % os.pidfd_open(os.getppid())"),
    _do("send a signal through a handle", "return 'ESCAPED %d' % call(424, 3, 9, 0, 0)"),
    _do("take a descriptor from another process", "return 'ESCAPED %d' % call(438, 3, 3, 0)"),
    _do(
        "have the kernel signal its parent",
        """
        import fcntl
        fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())
        return "ESCAPED"
        """,
    ),
    _do(
        "choose the signal that the kernel sends",
        """
        import fcntl
        fcntl.fcntl(os.pipe()[0], 10, 9)
        return "ESCAPED"
        """,
    ),
    _do(
        "watch a folder through fcntl",
        """
        import fcntl
        fcntl.fcntl(os.open("/usr", os.O_RDONLY), fcntl.F_NOTIFY, 1)
        return "ESCAPED"
        """,
    ),
    _do(
        "lease a file",
        """
        import fcntl
        fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), fcntl.F_SETLEASE, 0)
        return "ESCAPED"
        """,
    ),
    _do("mount", "return 'ESCAPED %d' % call(165, b't', b'/tmp', b'tmpfs', 0, 0)"),
    _do("unmount", "return 'ESCAPED %d' % call(166, b'/', 2)"),
    _do("change the root by pivot_root", "return 'ESCAPED %d' % call(155, b'/usr', b'/usr')"),
    _do("change the root by chroot", "os.chroot('/usr'); return 'ESCAPED'"),
    _do("make a user namespace", "return 'ESCAPED %d' % call(272, 0x10000000)"),
    _do("make a mount namespace", "return 'ESCAPED %d' % call(272, 0x00020000)"),
    _do("make a network namespace", "return 'ESCAPED %d' % call(272, 0x40000000)"),
    _do(
        "clone into a user namespace",
        "return 'ESCAPED %d' % call(56, 0x10000011, 0, 0, 0, 0)",
    ),
    _do(
        "clone a thread into a user namespace",
        "return 'ESCAPED %d' % call(56, 0x10010F00, 0, 0, 0, 0)",
    ),
    _do(
        "clone with flags that a filter cannot see",
        """
        arguments = struct.pack("<11Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
        return "ESCAPED %d" % call(435, arguments, 88)
        """,
        FAILED,
    ),
    _do("join a namespace by number", "return 'ESCAPED %d' % call(308, 0, 0)"),
    _do(
        "join the network of the host",
        "return 'ESCAPED %d' % call(308, os.open('/proc/1/ns/net', 0), 0)",
        FAILED,
    ),
    _do("become root", "os.setuid(0); return 'ESCAPED'"),
    _do("become root in every way at once", "os.setresuid(0, 0, 0); return 'ESCAPED'"),
    _do("become another group", "os.setgid(0); return 'ESCAPED'"),
    _do("join other groups", "os.setgroups([0]); return 'ESCAPED'"),
    _do("change its user for files only", "return 'ESCAPED %d' % call(122, 0)"),
    _do(
        "take capabilities",
        """
        header = struct.pack("<Ii", 0x20080522, 0)
        return "ESCAPED %d" % call(126, header, b"\\xff" * 24)
        """,
    ),
    _do("take ambient capabilities", "return 'ESCAPED %d' % call(157, 47, 2, 21, 0, 0)"),
    _do("become traceable again", "return 'ESCAPED %d' % call(157, 4, 1, 0, 0, 0)"),
    _do("outlive its parent", "return 'ESCAPED %d' % call(157, 1, 0, 0, 0, 0)"),
    _do("adopt orphans", "return 'ESCAPED %d' % call(157, 36, 1, 0, 0, 0)"),
    _do("load a filter of its own", "return 'ESCAPED %d' % call(317, 0, 0, 0)"),
    _do("load a filter through prctl", "return 'ESCAPED %d' % call(157, 22, 2, 0, 0, 0)"),
    _do("run a shell", "os.execv('/bin/sh', ['sh', '-c', 'id']); return 'ESCAPED'"),
    _do(
        "run a shell as a child",
        """
        import subprocess
        return "ESCAPED %r" % subprocess.run(["/bin/sh", "-c", "echo hi"], capture_output=True)
        """,
    ),
    _do("spawn a program", "return 'ESCAPED %d' % os.posix_spawn('/bin/sh', ['sh'], {})", FAILED),
    _do(
        "run a command line",
        "return 'ESCAPED' if os.system('true') == 0 else 'no'",
        frozenset({Outcome.OK, Outcome.VIOLATION}),
    ),
    _do(
        "run the interpreter",
        "os.execv('/usr/bin/' + os.listdir('/usr/bin')[0], ['x']); return 'ESCAPED'",
    ),
    _do(
        "run a program through the loader",
        """
        loader = [name for name in os.listdir("/lib") if name.startswith("ld-")][0]
        os.execv("/lib/" + loader, ["ld", "/usr/bin/" + os.listdir("/usr/bin")[0]])
        return "ESCAPED"
        """,
    ),
    _do(
        "run a program by descriptor",
        """
        program = os.open("/usr/bin/" + os.listdir("/usr/bin")[0], os.O_RDONLY)
        empty = struct.pack("<Q", 0)
        return "ESCAPED %d" % call(322, program, b"", empty, empty, 0x1000)
        """,
    ),
    # int 0x80 with eax = 20 (getpid): the 32-bit table, where every number means something else.
    _do(
        "make a 32-bit system call",
        _MACHINE_CODE % "b814000000cd80c3" + 'return "ESCAPED %d" % result',
        STOPPED | {Outcome.CRASHED},
    ),
    # syscall with eax = 57 (fork): a refusal comes back as -EPERM, a success as a process number.
    _do(
        "fork in machine code",
        _MACHINE_CODE % "b8390000000f05c3"
        + """
if result == 0: os._exit(0)
return "ESCAPED" if result > 0 else "refused with %d" % result
""",
        frozenset({Outcome.OK}),
    ),
)
