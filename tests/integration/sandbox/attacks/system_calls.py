"""SYS: corners of the kernel that no tool needs, and devices."""

from tests.integration.sandbox.attacks.attack import FAILED, STOPPED, Attack, Outcome

# Arguments are chosen so that a call that gets through changes nothing on the host.
_CALLS = {
    "io_uring_setup": "425, 4, bytes(256)",
    "io_uring_enter": "426, 0, 0, 0, 0, 0, 0",
    "io_uring_register": "427, 0, 0, 0, 0",
    "userfaultfd": "323, 1",
    "keyctl": "250, 0, -3, 0",
    "add_key": "248, b'user', b'k', b'v', 1, -3",
    "request_key": "249, b'user', b'k', 0, -3",
    "bpf": "321, 0, bytes(128), 64",
    "perf_event_open": "298, bytes([1, 0, 0, 0, 112]) + bytes(107), 0, -1, -1, 0",
    "getpid of the x32 table": "0x40000000 + 39",
    "the largest number": "0x7FFFFFFF",
    "a negative number": "-2",
    "shmget": "29, 0x74770001, 4096, 0o1666",
    "shmat": "30, 0, 0, 0",
    "msgget": "68, 0x74770001, 0o1666",
    "semget": "64, 0x74770001, 1, 0o1666",
    "mq_open": "240, b'tw', 0o102, 0o666, 0",
    "personality": "135, 0x0040000",
    "syslog": "103, 3, bytes(64), 64",
    "kexec_load": "246, 0, 0, 0, 0",
    "init_module": "175, 0, 0, b''",
    "finit_module": "313, -1, b'', 0",
    "delete_module": "176, b'tw_nothing', 0",
    "quotactl": "179, 0, 0, 0, 0",
    "settimeofday": "164, 0, 0",
    "clock_settime": "227, 99, 0",
    "adjtimex": "159, 0",
    "iopl": "172, 3",
    "ioperm": "173, 0, 1, 1",
    "modify_ldt": "154, 0, bytes(16), 16",
    "swapon": "167, b'/nowhere', 0",
    "reboot": "169, 0, 0, 0, 0",
    "acct": "163, b'/nowhere'",
    "name_to_handle_at": "303, -100, b'/usr', bytes(128), bytes(8), 0",
    "fanotify_init": "300, 0, 0",
    "inotify_init": "294, 0",
    "signalfd": "289, -1, bytes(8), 8, 0",
    "memfd_secret": "447, 0",
    "vmsplice": "278, 0, 0, 0, 0",
    "splice": "275, 0, 0, 0, 0, 0, 0",
    "tee": "276, 0, 0, 0, 0",
    "copy_file_range": "326, 0, 0, 0, 0, 0, 0",
    "process_madvise": "440, -1, 0, 0, 0, 0",
    "set_mempolicy": "238, 0, 0, 0",
    "move_pages": "279, 0, 0, 0, 0, 0, 0",
    "pkey_alloc": "330, 0, 0",
    "remap_file_pages": "216, 0, 0, 0, 0, 0",
    "kcmp": "312, 1, 1, 0, 0, 0",
    "lookup_dcookie": "212, 0, 0, 0",
    "landlock_create_ruleset": "444, 0, 0, 1",
    "fsopen": "430, b'tmpfs', 0",
    "open_tree": "428, -100, b'/usr', 0",
    "sethostname": "170, b'', 0",
    "vhangup": "153",
    "nfsservctl": "180",
    "set_robust_list of a wrong size": "273, 0, 1",
    "rt_tgsigqueueinfo": "297, 1, 1, 9, bytes(128)",
    "ioprio_set": "251, 1, 0, 0",
    "mlockall": "151, 3",
    "mbind": "237, 0, 0, 0, 0, 0, 0",
}
_NOT_PERMISSION = {"set_robust_list of a wrong size", "the largest number", "a negative number"}


def _call(name: str, arguments: str) -> Attack:
    expected = FAILED if name in _NOT_PERMISSION else STOPPED
    return Attack(f"call {name}", "SYS", f"return 'ESCAPED %d' % call({arguments})", expected)


def _device(path: str) -> Attack:
    body = f"return 'ESCAPED %d' % os.open('{path}', os.O_RDWR)"
    return Attack(f"open {path}", "SYS", body, FAILED)


def _do(name: str, body: str, expected: frozenset[Outcome] = FAILED) -> Attack:
    return Attack(name, "SYS", body, expected)


ATTACKS = (
    *(_call(name, arguments) for name, arguments in _CALLS.items()),
    *(_device(path) for path in ("/dev/kvm", "/dev/mem", "/dev/vda", "/dev/fuse", "/dev/shm")),
    _do(
        "type into a terminal",
        """
        import fcntl
        fcntl.ioctl(0, 0x5412, b"x")
        return "ESCAPED"
        """,
    ),
    _do(
        "paste into a console",
        """
        import fcntl
        fcntl.ioctl(0, 0x541C, b"\\x03")
        return "ESCAPED"
        """,
    ),
    _do(
        "change the kernel through /sys",
        """
        path = "/sys/kernel/mm/transparent_hugepage/enabled"
        descriptor = os.open(path, os.O_WRONLY)
        return "ESCAPED %d" % descriptor
        """,
    ),
    _do("open a terminal", "return 'ESCAPED %d' % os.open('/dev/ptmx', os.O_RDWR)"),
    _do(
        "make a shared memory segment by name",
        """
        from multiprocessing import shared_memory
        return "ESCAPED %s" % shared_memory.SharedMemory(create=True, size=4096).name
        """,
    ),
    _do(
        "make a semaphore by name",
        """
        import multiprocessing
        return "ESCAPED %r" % multiprocessing.Semaphore(1)
        """,
    ),
)
