"""NET: every way to a network that is not the sandbox's broker."""

from tests.integration.sandbox.attacks.attack import FAILED, STOPPED, Attack, Outcome


def _do(name: str, body: str, expected: frozenset[Outcome] = FAILED) -> Attack:
    return Attack(name, "NET", body, expected)


def _socket(name: str, family: int, kind: int, protocol: int) -> Attack:
    return _do(
        f"make a socket of family {name}",
        f"return 'ESCAPED %r' % _socket.socket({family}, {kind}, {protocol})",
        STOPPED,
    )


ATTACKS = (
    _do(
        "connect to a service on the loopback",
        """
        connection = _socket.socket()
        connection.connect(("127.0.0.1", canary["tcp"]))
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do(
        "connect to a service on the loopback over IPv6",
        """
        connection = _socket.socket(_socket.AF_INET6)
        connection.connect(("::ffff:127.0.0.1", canary["tcp"]))
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do(
        "connect as the standard library does",
        "return 'ESCAPED %r' % socket.create_connection(('127.0.0.1', canary['tcp']), 1)",
    ),
    _do(
        "fetch from the loopback with http.client",
        """
        import http.client
        connection = http.client.HTTPConnection("127.0.0.1", canary["tcp"], timeout=2)
        connection.request("GET", "/")
        return "ESCAPED %d" % connection.getresponse().status
        """,
    ),
    _do(
        "fetch from the loopback with urllib",
        """
        import urllib.request
        address = "http://127.0.0.1:%d/" % canary["tcp"]
        return "ESCAPED %r" % urllib.request.urlopen(address, timeout=2).read(20)
        """,
    ),
    _do(
        "fetch from the loopback with requests",
        """
        import requests
        address = "http://127.0.0.1:%d/" % canary["tcp"]
        return "ESCAPED %d" % requests.get(address, timeout=2).status_code
        """,
    ),
    _do(
        "read a host file through urllib",
        """
        import urllib.request
        return "ESCAPED %r" % urllib.request.urlopen("file://" + canary["public"]).read()
        """,
    ),
    _do(
        "connect to the cloud's metadata service",
        """
        connection = _socket.socket()
        connection.settimeout(1)
        connection.connect(("169.254.169.254", 80))
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do(
        "send a datagram to a name server",
        """
        connection = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        connection.sendto(b"x", ("8.8.8.8", 53))
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do(
        "send a datagram to the loopback",
        """
        connection = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        connection.sendto(b"x", ("127.0.0.1", canary["udp"]))
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do(
        "resolve a name",
        "return 'ESCAPED %r' % _socket.getaddrinfo('example.com', 443)",
    ),
    _do(
        "listen",
        """
        connection = _socket.socket()
        connection.bind(("0.0.0.0", 0))
        connection.listen(1)
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do(
        "connect to an abstract unix socket",
        """
        connection = _socket.socket(_socket.AF_UNIX)
        connection.connect(chr(0) + canary["abstract"])
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do(
        "connect to a unix socket by path",
        """
        connection = _socket.socket(_socket.AF_UNIX)
        connection.connect(canary["unix"])
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do("make a pair of sockets", "return 'ESCAPED %r' % (socket.socketpair(),)", STOPPED),
    _do(
        "turn its own connection to another address",
        """
        address = struct.pack("<H", 1) + b"\\0" + canary["abstract"].encode()
        return "ESCAPED %d" % call(42, channels()[0], address, len(address))
        """,
        STOPPED,
    ),
    _do(
        "send from its own connection to another address",
        """
        address = struct.pack("<H", 1) + b"\\0" + canary["abstract"].encode()
        sent = call(44, channels()[0], b"x", 1, 0, address, len(address))
        return "ESCAPED %d" % sent
        """,
        FAILED | {Outcome.PROTOCOL_ERROR},
    ),
    _do(
        "pass a descriptor to the host",
        """
        own = _socket.socket(fileno=channels()[0])
        own.sendmsg([b"x"], [(1, 1, struct.pack("i", 0))])
        return "ESCAPED"
        """,
        STOPPED,
    ),
    _do(
        "accept a descriptor from the host",
        """
        own = _socket.socket(fileno=channels()[0])
        own.recvmsg(1, 64, _socket.MSG_DONTWAIT)
        return "ESCAPED"
        """,
        STOPPED | {Outcome.TOOL_ERROR},
    ),
    _do(
        "learn who is at the other end",
        """
        own = _socket.socket(fileno=channels()[0])
        return "ESCAPED %r" % own.getsockopt(1, 17, 12)
        """,
        STOPPED,
    ),
    _do(
        "learn the addresses of the host's network cards",
        """
        import fcntl
        buffer = ctypes.create_string_buffer(256)
        request = struct.pack("qP", 256, ctypes.addressof(buffer))
        return "ESCAPED %r" % fcntl.ioctl(channels()[0], 0x8912, request)
        """,
    ),
    _socket("PACKET", 17, 3, 768),
    _socket("NETLINK", 16, 3, 12),
    _socket("VSOCK", 40, 1, 0),
    _socket("ALG", 38, 5, 0),
    _socket("RAW", 2, 3, 1),
    _socket("BLUETOOTH", 31, 3, 1),
    _socket("XDP", 44, 3, 0),
)
