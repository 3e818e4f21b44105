"""FS: reading, writing, filling and naming what belongs to the host."""

from tests.integration.sandbox.attacks.attack import FAILED, HARMLESS, STOPPED, Attack, Outcome

_FULL = FAILED | {Outcome.MEMORY_LIMIT, Outcome.CRASHED}


def _read(name: str, expression: str) -> Attack:
    return Attack(name, "FS", f"return 'ESCAPED ' + open({expression}).read()[:50]", FAILED)


def _do(name: str, body: str, expected: frozenset[Outcome] = FAILED, **more: object) -> Attack:
    return Attack(name, "FS", body, expected, **more)  # type: ignore[arg-type]


ATTACKS = (
    Attack("read /etc/passwd", "FS", "return 'ESCAPED ' + open('/etc/passwd').read()", STOPPED),
    Attack("read /etc/shadow", "FS", "return 'ESCAPED ' + open('/etc/shadow').read()", STOPPED),
    _read("read a host file of mode 0644", "canary['public']"),
    _read("read a host file of mode 0600", "canary['secret']"),
    _read("read the host through /proc/self/root", "'/proc/self/root/etc/passwd'"),
    _read("read the host through parent folders", "'../../../../../..' + canary['public']"),
    _do(
        "read a host file through a symbolic link",
        """
        link = "/tmp/" + canary["token"]
        os.symlink(canary["public"], link)
        return "ESCAPED " + open(link).read()
        """,
    ),
    _do(
        "read a host file through a hard link",
        """
        os.link(canary["public"], "/usr/" + canary["token"])
        return "ESCAPED"
        """,
    ),
    _do(
        "read a host file by handle",
        """
        handle = ctypes.create_string_buffer(struct.pack("<IIQ", 8, 1, 2), 128)
        return "ESCAPED %d" % call(304, os.open("/usr", os.O_RDONLY), handle, 0)
        """,
        STOPPED,
    ),
    _do("list /", "return 'ESCAPED ' + ','.join(os.listdir('/'))", STOPPED),
    _do("list /root", "return 'ESCAPED ' + ','.join(os.listdir('/root'))", STOPPED),
    _do("list /home", "return 'ESCAPED ' + ','.join(os.listdir('/home'))", STOPPED),
    _do("list /var", "return 'ESCAPED ' + ','.join(os.listdir('/var'))", STOPPED),
    _do(
        "list above the root",
        """
        os.chdir("/usr")
        names = os.listdir("../../../../..")
        return "ESCAPED " + ",".join(names)
        """,
    ),
    _do(
        "stat a host file",
        "return 'ESCAPED %d bytes' % os.stat(canary['public']).st_size",
    ),
    _do(
        "tell existing from missing host files",
        """
        seen = [os.access(canary[name], os.F_OK) for name in ("public", "secret", "folder")]
        return "ESCAPED" if any(seen) else "none exists"
        """,
        HARMLESS,
    ),
    _do(
        "write to /var/tmp",
        """
        open("/var/tmp/" + canary["token"], "w").write("x")
        return "ESCAPED"
        """,
    ),
    _do(
        "write to /tmp where the host sees it",
        """
        open("/tmp/" + canary["token"], "w").write("x")
        return "the host must not see it"
        """,
        HARMLESS,
    ),
    _do(
        "write to a folder that everybody may write",
        """
        open(canary["drop"] + "/file", "w").write("x")
        return "ESCAPED"
        """,
    ),
    _do(
        "create a nameless file on the host",
        """
        os.open(canary["drop"], os.O_TMPFILE | os.O_RDWR)
        return "ESCAPED"
        """,
    ),
    _do(
        "write into the standard library",
        """
        open(os.path.dirname(os.__file__) + "/pwned.py", "w").write("x")
        return "ESCAPED"
        """,
    ),
    _do(
        "append to a module of the standard library",
        """
        open(os.__file__, "a").write("#")
        return "ESCAPED"
        """,
    ),
    _do(
        "replace the sandbox's own code",
        """
        module = sys.modules["services.toolenv.sandbox.worker"]
        open(module.__file__, "w").write("x")
        return "ESCAPED"
        """,
    ),
    _do(
        "truncate the interpreter",
        """
        os.truncate("/usr/bin/" + os.listdir("/usr/bin")[0], 0)
        return "ESCAPED"
        """,
    ),
    _do(
        "rename a module of the standard library",
        "os.rename(os.__file__, os.__file__ + '.old'); return 'ESCAPED'",
    ),
    _do(
        "delete a module of the standard library",
        "os.unlink(os.__file__); return 'ESCAPED'",
    ),
    _do("make a file set-user-id", "os.chmod(os.__file__, 0o6777); return 'ESCAPED'", STOPPED),
    _do("make a folder", "os.mkdir('/usr/' + canary['token']); return 'ESCAPED'"),
    _do("make a device", "os.mknod('/usr/zero', 0o20666, os.makedev(1, 5)); return 'ESCAPED'"),
    _do("change the times of a file", "os.utime(os.__file__, (0, 0)); return 'ESCAPED'"),
    _do(
        "set an extended attribute",
        "os.setxattr(os.__file__, 'user.pwned', b'x'); return 'ESCAPED'",
    ),
    _do(
        "write to a file through shared memory",
        """
        import mmap
        descriptor = os.open(os.__file__, os.O_RDONLY)
        view = mmap.mmap(descriptor, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        view[0] = 0
        return "ESCAPED"
        """,
    ),
    _do(
        "write through a database engine",
        """
        import sqlite3
        database = sqlite3.connect(canary["drop"] + "/x.db")
        database.execute("create table t (x)")
        return "ESCAPED"
        """,
    ),
    _do(
        "fill /tmp with 256 MB",
        """
        written = 0
        for number in range(64):
            with open("/tmp/%s%d" % (canary["token"], number), "wb") as file:
                for _ in range(16):
                    written += file.write(b"x" * 262144)
        return "ESCAPED %d" % written
        """,
        _FULL,
    ),
    _do(
        "make 20,000 files in /tmp",
        """
        for number in range(20000):
            open("/tmp/%s%d" % (canary["token"], number), "w").close()
        return "ESCAPED"
        """,
        _FULL,
    ),
    _do(
        "leave a file for the next call",
        """
        import tempfile
        open(os.path.join(tempfile.gettempdir(), "left"), "w").write("x")
        return "left"
        """,
        HARMLESS,
        after="""
        for folder in ("/tmp", "/w/tmp", "/var/tmp", "."):
            if os.path.exists(folder + "/left"):
                return "ESCAPED " + folder
        return "clean"
        """,
    ),
    # The private folder exists in tier `ns` when the limits ask for it; elsewhere it is refused.
    _do(
        "fill the private folder with 256 MB",
        """
        written = 0
        for number in range(64):
            with open("/w/tmp/%d" % number, "wb") as file:
                for _ in range(16):
                    written += file.write(b"x" * 262144)
        return "ESCAPED %d" % written
        """,
        _FULL,
    ),
    _do(
        "write one file of 64 MB into the private folder",
        """
        with open("/w/tmp/big", "wb") as file:
            for _ in range(64): file.write(b"x" * (1 << 20))
        return "ESCAPED"
        """,
        _FULL,
    ),
    _do(
        "make 20,000 files in the private folder",
        """
        for number in range(20000):
            open("/w/tmp/%d" % number, "w").close()
        return "ESCAPED"
        """,
        _FULL,
    ),
    _do(
        "run a program from the private folder",
        """
        import shutil
        copy = shutil.copy("/usr/bin/" + os.listdir("/usr/bin")[0], "/w/tmp/program")
        os.chmod(copy, 0o755)
        os.execv(copy, ["x"])
        return "ESCAPED"
        """,
        _FULL,
    ),
    _do(
        "link out of the private folder",
        """
        os.symlink(canary["public"], "/w/tmp/link")
        return "ESCAPED " + open("/w/tmp/link").read()
        """,
    ),
    _do(
        "make a device in the private folder",
        "os.mknod('/w/tmp/zero', 0o20666, os.makedev(1, 5)); return 'ESCAPED'",
    ),
    _do(
        "make a named pipe in the private folder",
        "os.mkfifo('/w/tmp/pipe'); return 'ESCAPED'",
    ),
    _do(
        "leave a file in the private folder for the next call",
        """
        open("/w/tmp/left", "w").write("x")
        return "left"
        """,
        HARMLESS,
        after="return 'ESCAPED' if os.path.exists('/w/tmp/left') else 'clean'",
    ),
    _do(
        "keep memory of the private folder after the call",
        """
        for number in range(15):
            open("/w/tmp/%d" % number, "wb").write(bytes(1 << 20))
        return "left"
        """,
        _FULL | HARMLESS,
        after="""
        import shutil
        try: used = shutil.disk_usage("/w/tmp").used
        except OSError: used = 0
        return "ESCAPED %d" % used if used > 65536 and os.path.exists("/w/tmp/0") else "clean"
        """,
    ),
)
