"""What can stand between a request and the internet.

EgressError
  EgressRefused       the guard forbids it; retrying changes nothing
  NameNotResolved     the host has no address, or not in time
  ResponseTooLarge    the answer exceeds the byte limit, before or after decompression
"""


class EgressError(Exception):
    """Base of what the guarded transport raises beside httpx's own errors."""


class EgressRefused(EgressError):
    """The guard forbids the request.

    Attributes:
        target: Host, address or URL part that was refused; never a query or a secret.
        rule: Which rule forbids it, as a clause.
        fix: What the author of the tool or the operator can do.
    """

    def __init__(self, *, target: str, rule: str, fix: str) -> None:
        self.target, self.rule, self.fix = target[:200], rule, fix
        super().__init__(f"egress refused: {self.target!r} {rule}; {fix}")


class NameNotResolved(EgressError):
    """A host name has no address, or no answer came in time."""


class ResponseTooLarge(EgressError):
    """A response exceeds its byte limit."""

    def __init__(self, *, limit_bytes: int, what: str) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            f"{what} exceeds the limit of {limit_bytes} bytes; ask the API for less, page by page"
        )
