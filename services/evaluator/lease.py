"""A lease on a sample: held while its worker lives, gone soon after the worker is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis
import structlog
from redis.exceptions import LockNotOwnedError, RedisError
from redis.lock import Lock

_RENEWALS_PER_TTL = 4  # three may be missed
log = structlog.get_logger()


@contextmanager
def lease(client: redis.Redis, name: str, *, ttl_s: float) -> Iterator[bool]:
    """Try to take a lease; a thread renews it until the block ends.

    A holder that Redis does not hear of for `ttl_s` may lose it to another one, and is not told:
    what the lease guards must tolerate a second run, only not need it.

    Args:
        client: Redis connection, shared with the renewing thread.
        name: What is leased.
        ttl_s: Seconds for which the lease outlives its holder.

    Yields:
        Whether the lease was got; somebody else holds it if not.
    """
    lock = client.lock(f"lease:{name}", timeout=ttl_s, thread_local=False)
    if not lock.acquire(blocking=False):
        yield False
        return
    stop = threading.Event()
    thread = threading.Thread(
        target=_renew, args=(lock, stop, ttl_s / _RENEWALS_PER_TTL), name="lease", daemon=True
    )
    thread.start()
    try:
        yield True
    finally:
        stop.set()
        thread.join(timeout=ttl_s)
        try:
            lock.release()
        except RedisError as exc:
            log.warning("lease_not_released", lease=name, error=type(exc).__name__)


def _renew(lock: Lock, stop: threading.Event, every_s: float) -> None:
    while not stop.wait(every_s):
        try:
            lock.reacquire()
        except LockNotOwnedError:
            log.warning("lease_lost", lease=lock.name)
            return
        except RedisError as exc:  # one unanswered renewal is no reason to stop
            log.warning("lease_not_renewed", lease=lock.name, error=type(exc).__name__)
