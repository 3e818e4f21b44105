"""No call sees what an earlier one changed, whatever it was and in whatever order."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.toolenv.sandbox import Sandbox, SandboxOutcome

pytestmark = pytest.mark.anyio

_DEADLINE_S = 25.0
_SEQUENCES = 25

# What one call may try to leave behind. Each is a statement list that must not raise.
_MUTATIONS = {
    "builtins": "import builtins; builtins.len = builtins.open = None; builtins.planted = 1",
    "builtins-delete": "import builtins; del builtins.sum, builtins.sorted",
    "json": "import json; json.dumps = json.loads = None",
    "json-encoder": "import json.encoder; json.encoder.c_make_encoder = None",
    "json-default": "import json; json._default_encoder.ensure_ascii = False",
    "requests": """
try:
    import requests
    requests.get = requests.Session.get = None
    requests.packages = 7
except ImportError: pass""",
    "urllib": "import urllib.request; urllib.request._opener = 7",
    "http": "import http.client; http.client.HTTPConnection.debuglevel = 9",
    "socket": "import socket; socket.socket = None; socket.getaddrinfo = None",
    "modules-remove": "import sys; [sys.modules.pop(n) for n in ('math', 'json', 're')]",
    "modules-add": "import sys, types; sys.modules['planted'] = types.ModuleType('planted')",
    "sandbox-modules": """
import sys
for name, module in list(sys.modules.items()):
    if name.startswith('services.'): module.planted = 1""",
    "path": "import sys; sys.path[:] = ['/evil']",
    "hooks": "import sys; sys.meta_path.append(None); sys.path_hooks.clear()",
    "environment": "import os; os.environ['PLANTED'] = '1'; os.environ['TZ'] = 'Asia/Tokyo'",
    "environment-c": "import ctypes; ctypes.CDLL(None).setenv(b'PLANTED_C', b'1', 1)",
    "clock": "import os, time; os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()",
    "random": "import random; random.seed(1)",
    "random-state": "import random; random.setstate(random.Random(2).getstate())",
    "files": """
import os, tempfile
for folder in ('/tmp', '/w/tmp', '/var/tmp', '.'):
    try: open(os.path.join(folder, 'planted'), 'w').write('x')
    except OSError: pass""",
    "descriptors": "import os; kept = [os.pipe() for _ in range(5)]",
    "descriptor-flags": """
import fcntl, os
for descriptor in (0, 1, 2):
    try: fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)
    except OSError: pass""",
    "descriptors-close": "import os; os.closerange(0, 3)",
    "threads": """
import threading, time
[threading.Thread(target=time.sleep, args=(60,), daemon=True).start() for _ in range(4)]""",
    "thread-stack": "import threading; threading.stack_size(1 << 20)",
    "signals": """
import signal
for number in (1, 2, 10, 12, 14, 15, 17): signal.signal(number, signal.SIG_IGN)""",
    "signal-mask": "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [1, 2, 15])",
    "timer": "import signal; signal.setitimer(signal.ITIMER_REAL, 100)",
    "locale": """
import locale
for name in ('C.UTF-8', 'C', 'POSIX'):
    try: locale.setlocale(locale.LC_ALL, name)
    except locale.Error: pass""",
    "warnings": "import warnings; warnings.simplefilter('error'); warnings.showwarning = None",
    "gc": "import gc; gc.disable(); gc.set_threshold(1, 1, 1); gc.unfreeze()",
    "decimal": "import decimal; decimal.getcontext().prec = 3; decimal.DefaultContext.prec = 4",
    "recursion": "import sys; sys.setrecursionlimit(77)",
    "socket-timeout": "import socket; socket.setdefaulttimeout(0.001)",
    "switch-interval": "import sys; sys.setswitchinterval(0.5)",
    "digits": "import sys; sys.set_int_max_str_digits(0)",
    "trace": "import sys; sys.setprofile(lambda *a: None)",
    "excepthook": "import sys, threading; sys.excepthook = threading.excepthook = None",
    "streams": "import sys; sys.stdin = sys.__stdout__ = None",
    "umask": "import os; os.umask(0o777)",
    "folder": "import os; os.chdir('/usr')",
    "codecs": """
import codecs
utf8 = codecs.lookup('utf-8')
codecs.register(lambda name: utf8 if name == 'planted' else None)""",
    "pickle": "import copyreg; copyreg.dispatch_table[int] = str",
    "logging": """
import logging
logging.disable(50)
logging.getLogger().addHandler(logging.NullHandler())""",
    "abc": "import collections.abc; collections.abc.Sized.register(int)",
    "small-integers": """
import ctypes, struct
ctypes.memmove(id(211) + 24, struct.pack('<I', 7), 4)""",
    "type-dictionary": "import gc; gc.get_referents(str.__dict__)[0]['planted'] = 1",
    "regular-expressions": "import re; re.purge(); re._cache['planted'] = 1",
    "zones": "import zoneinfo; zoneinfo.reset_tzpath(to=['/evil'])",
    "asyncio": """
import asyncio
asyncio.set_event_loop_policy(type('Policy', (asyncio.DefaultEventLoopPolicy,), {})())""",
    "exit": "import atexit; atexit.register(print, 'planted')",
    "audit": "import sys; sys.addaudithook(lambda *a: None)",
    "context": "import contextvars; contextvars.ContextVar('planted').set(1)",
    "uuid": "import uuid; uuid._node = 7; uuid.getnode = None",
    "hash": "import hashlib; hashlib.sha256 = hashlib.md5",
    "process-name": "import ctypes; ctypes.CDLL(None).prctl(15, b'planted', 0, 0, 0)",
}

# Everything the mutations touch, as one JSON value. It imports what it looks at only here.
_FINGERPRINT = """
import sys
modules_at_start = sorted(sys.modules)
import builtins, os
def attempt(read):
    try: return repr(read())
    except BaseException as error: return type(error).__name__
def run():
    import abc, asyncio, atexit, codecs, collections.abc, contextvars, copyreg, ctypes, decimal
    import fcntl, gc, hashlib, http.client, json, json.encoder, locale, logging, re, resource
    import signal, socket, tempfile, threading, time, urllib.request, uuid, warnings, zoneinfo
    def names(value): return sorted(dir(value))
    def kind(value): return type(value).__name__ + ':' + str(getattr(value, '__qualname__', ''))
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    name = ctypes.create_string_buffer(32)
    libc.prctl(16, name, 0, 0, 0)
    folders = ('/tmp', '/w/tmp', '/var/tmp', '.')
    requests = sys.modules.get('requests')
    return {
        'builtins': [(n, kind(getattr(builtins, n))) for n in names(builtins)],
        'modules': modules_at_start,
        'sandbox': [(n, names(m)) for n, m in sorted(sys.modules.items()) if n[:9] == 'services.'],
        'json': [kind(json.dumps), kind(json.loads), kind(json.encoder.c_make_encoder),
                 json.dumps(['\\u00e9'])],
        'requests': [names(requests), kind(requests.get), kind(requests.Session.get)]
                    if requests else None,
        'urllib': kind(urllib.request._opener),
        'http': http.client.HTTPConnection.debuglevel,
        'socket': [kind(socket.socket), kind(socket.getaddrinfo), socket.getdefaulttimeout()],
        'path': [sys.path, len(sys.meta_path), len(sys.path_hooks)],
        'environment': [dict(os.environ), str(libc.getenv(b'PLANTED_C')), time.tzname],
        'files': [attempt(lambda: 'planted' in os.listdir(f)) for f in folders]
                 + [os.path.exists(f + '/planted') for f in folders],
        'descriptors': [attempt(lambda: (os.fstat(d).st_mode, fcntl.fcntl(d, fcntl.F_GETFL)))
                        for d in range(40)],
        'threads': [threading.active_count(), threading.stack_size()],
        'signals': [kind(signal.getsignal(s)) + attempt(lambda: signal.getsignal(s) in (0, 1))
                    for s in sorted(signal.valid_signals())],
        'mask': sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        'timer': signal.getitimer(signal.ITIMER_REAL),
        'locale': locale.setlocale(locale.LC_ALL),
        'warnings': [repr(warnings.filters), kind(warnings.showwarning)],
        'gc': [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count() > 0],
        'decimal': [repr(decimal.getcontext()), repr(decimal.DefaultContext)],
        'interpreter': [sys.getrecursionlimit(), sys.getswitchinterval(), sys.gettrace() is None,
                        sys.get_int_max_str_digits(), sys.getprofile() is None,
                        kind(sys.excepthook), kind(threading.excepthook), kind(sys.stdin),
                        kind(sys.__stdout__), kind(sys.stdout)],
        'folder': [os.getcwd(), oct(os.umask(0o022))],
        'codecs': attempt(lambda: codecs.lookup('planted')),
        'pickle': sorted(map(kind, copyreg.dispatch_table)),
        'logging': [logging.root.manager.disable, len(logging.root.handlers), logging.root.level],
        'abc': isinstance(3, collections.abc.Sized),
        'integers': [str(n) for n in range(200, 257)],
        'types': [hasattr(t, 'planted') for t in (str, int, dict, list, tuple, type, object)],
        'expressions': 'planted' in re._cache,
        'zones': list(zoneinfo.TZPATH),
        'asyncio': kind(asyncio.get_event_loop_policy()),
        'exit': atexit._ncallbacks(),
        'context': [variable.name for variable in contextvars.copy_context()],
        'uuid': [uuid._node, kind(uuid.getnode)],
        'hash': hashlib.sha256(b'a').hexdigest(),
        'limits': [resource.getrlimit(getattr(resource, n)) for n in names(resource)
                   if n.startswith('RLIMIT_')],
        'user': [os.getuid(), os.getgid(), os.getgroups(), os.getpriority(os.PRIO_PROCESS, 0)],
        'process': name.value.decode(),
    }
"""
_RANDOM = """
import random, secrets, ssl, uuid, os, tempfile
def run():
    return [random.random(), random.Random().random(), secrets.token_hex(8), uuid.uuid4().hex,
            os.urandom(8).hex(), ssl.RAND_bytes(8).hex(), next(tempfile._get_candidate_names()),
            random.SystemRandom().random()]
"""

_CALLS = st.lists(
    st.lists(st.sampled_from(sorted(_MUTATIONS)), min_size=1, max_size=4), min_size=1, max_size=5
)


async def _call(sandbox: Sandbox, source: str) -> object:
    result = await sandbox.call(source=source, function="run", arguments={}, deadline_s=_DEADLINE_S)
    assert result.outcome is SandboxOutcome.OK, result.error
    return result.value


@pytest.fixture(scope="module")
async def fresh(sandbox: Sandbox) -> object:
    """The fingerprint of a worker before anybody has changed anything."""
    return await _call(sandbox, _FINGERPRINT)


def _mutate(names: list[str]) -> str:
    """A source that changes all this and reports past whatever it broke."""
    steps = "".join(
        f"try: exec({_MUTATIONS[name]!r}, {{}})\nexcept Exception: pass\n" for name in names
    )
    return f"{steps}def run(): return None\n"


async def test_a_fingerprint_is_the_same_for_every_fresh_worker(sandbox: Sandbox, fresh: object):
    for _ in range(4):
        assert await _call(sandbox, _FINGERPRINT) == fresh


@pytest.mark.parametrize("name", sorted(_MUTATIONS))
async def test_a_mutation_is_real_in_its_own_call_and_gone_in_the_next(
    sandbox: Sandbox, fresh: object, name: str
):
    own = (
        _FINGERPRINT + f"_look = run\ndef run():\n exec({_MUTATIONS[name]!r}, {{}})\n return None\n"
    )
    result = await sandbox.call(source=own, function="run", arguments={}, deadline_s=_DEADLINE_S)
    # It may break the reporting of its own worker, but nothing kept it from trying.
    assert result.outcome is not SandboxOutcome.UNAVAILABLE
    assert await _call(sandbox, _FINGERPRINT) == fresh


@settings(
    max_examples=_SEQUENCES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(calls=_CALLS)
async def test_no_sequence_of_mutating_calls_is_seen_by_the_next_call(
    sandbox: Sandbox, fresh: object, calls: list[list[str]]
):
    for names in calls:
        await sandbox.call(
            source=_mutate(names), function="run", arguments={}, deadline_s=_DEADLINE_S
        )
    seen = await _call(sandbox, _FINGERPRINT)
    assert json.dumps(seen, indent=0) == json.dumps(fresh, indent=0)


async def test_a_mutation_within_one_call_is_seen_by_that_call(sandbox: Sandbox, fresh: object):
    """The fingerprint would not notice a leak of what it does not look at."""
    names = ["environment", "decimal", "recursion", "socket-timeout", "umask", "gc", "warnings"]
    source = _mutate(names).rpartition("def run()")[0] + _FINGERPRINT
    seen = await _call(sandbox, source)
    changed = {key for key in seen if seen[key] != fresh[key]}
    assert changed >= {
        *("environment", "decimal", "interpreter", "socket", "folder", "gc", "warnings"),
    }


async def test_random_numbers_of_every_kind_differ_between_calls(sandbox: Sandbox):
    await _call(sandbox, "import random\nrandom.seed(1)\ndef run(): return None")
    draws = [await _call(sandbox, _RANDOM) for _ in range(6)]
    for kind in zip(*draws, strict=True):
        assert len(set(kind)) == len(draws)
