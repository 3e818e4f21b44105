"""STATE: what one call changes and the next one must not see."""

from tests.integration.sandbox.attacks.attack import HARMLESS, Attack, Outcome

# Poison harms the poisoner's own call first: its worker may loop or send nonsense.
_POISONED = HARMLESS | {Outcome.PROTOCOL_ERROR, Outcome.CPU_LIMIT, Outcome.CRASHED}


def _leave(name: str, body: str, trace: str) -> Attack:
    """An attack that changes something, and an expression that is true when a trace is seen."""
    after = f"return 'ESCAPED' if ({trace}) else 'clean'"
    return Attack(name, "STATE", f"{body}\nreturn 'left'", _POISONED, after=after)


ATTACKS = (
    _leave("poison len", "import builtins; builtins.len = lambda x: 99", "len('ab') != 2"),
    _leave("poison open", "import builtins; builtins.open = print", "open is print"),
    _leave(
        "poison json.dumps",
        "import json; json.dumps = lambda *a, **k: '{}'",
        "__import__('json').dumps([1]) != '[1]'",
    ),
    _leave(
        "poison the encoder in C",
        "import json.encoder; json.encoder.c_make_encoder = None",
        "__import__('json.encoder').encoder.c_make_encoder is None",
    ),
    _leave(
        "poison requests",
        "import requests; requests.get = requests.api.get = print",
        "getattr(sys.modules.get('requests'), 'get', None) is print",
    ),
    _leave("remove a module", "sys.modules['math'] = None", "sys.modules.get('math', 1) is None"),
    _leave("add a module", "sys.modules['planted'] = sys", "'planted' in sys.modules"),
    _leave("add a folder to import from", "sys.path.insert(0, '/evil')", "'/evil' in sys.path"),
    _leave("add a finder", "sys.meta_path.insert(0, None)", "None in sys.meta_path"),
    _leave("set a variable", "os.environ['PLANTED'] = '1'", "'PLANTED' in os.environ"),
    _leave(
        "set a variable in C",
        "libc.setenv(b'PLANTED', b'1', 1); libc.getenv.restype = ctypes.c_char_p",
        "libc.getenv(b'PLANTED') != 0",
    ),
    _leave(
        "poison the sandbox's own modules",
        """frames = sys.modules['services.toolenv.sandbox.frames']
frames.MAX_DEPTH = frames.planted = 7""",
        "hasattr(sys.modules['services.toolenv.sandbox.frames'], 'planted')",
    ),
    _leave(
        "overwrite the number 200 in memory",
        "ctypes.memmove(id(200) + 24, struct.pack('<I', 7), 4)",
        "str(100 + 100) != '2' + '00'",
    ),
    _leave(
        "overwrite the empty tuple's class",
        "import gc; gc.get_referents(str.__dict__)[0]['planted'] = 1",
        "hasattr(str, 'planted')",
    ),
    _leave("change the folder", "os.chdir('/usr')", "os.getcwd() != '/'"),
    _leave("change the mask of new files", "os.umask(0o777)", "os.umask(0) == 0o777"),
    _leave(
        "change the flags of descriptor 0",
        "import fcntl; fcntl.fcntl(0, 4, os.O_NONBLOCK)",
        "__import__('fcntl').fcntl(0, 3) & os.O_NONBLOCK",
    ),
    _leave("close descriptors 0 to 2", "os.closerange(0, 3)", "not os.fstat(2)"),
    _leave("rename the process", "call(157, 15, b'planted')", "False"),
    _leave(
        "leave a thread running",
        "threading.Thread(target=silent, daemon=False).start()",
        "threading.active_count() != 1",
    ),
    _leave(
        "ignore interrupts",
        "signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "signal.getsignal(signal.SIGINT) == signal.SIG_IGN",
    ),
    Attack(
        "seed the random numbers of the next call",
        "STATE",
        "import random; random.seed(7); return 'left'",
        HARMLESS,
        after="""
        import random
        return "ESCAPED" if random.random() == random.Random(7).random() else "clean"
        """,
    ),
    # The compiled code of a source may be cached; only a worker that ran no tool code may fill it.
    Attack(
        "poison the cached code of its own source",
        "STATE",
        """
        import base64, marshal
        planted = compile("def run(canary): return 'ESCAPED'", "api.py", "exec")
        code = base64.b64encode(marshal.dumps(planted)).decode()
        frame(b'{"t":"code","code":"' + code.encode() + b'"}')
        return "left"
        """,
        HARMLESS | {Outcome.PROTOCOL_ERROR},
    ),
)
