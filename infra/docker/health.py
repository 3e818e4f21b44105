"""`python -m infra.docker.health`: health check of a container, without curl in the image."""

import argparse
import sys
import urllib.request
from urllib.error import URLError


def check(url: str, *, timeout_s: float) -> str | None:
    """Ask `url` once.

    Args:
        url: A health path of the service in this container.
        timeout_s: Longest wait for each step of the answer, seconds.

    Returns:
        `None` for status 200, else what is wrong.
    """
    # Docker passes a host's proxy settings into containers, where a loopback address means us.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            status: int = answer.status
    except (URLError, OSError, ValueError) as exc:
        return f"{url} does not answer 200: {exc}"
    return None if status == 200 else f"{url} answers {status}, not 200"


def main() -> int:
    """Exit status 0 when the service is healthy, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m infra.docker.health", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="port of the service")
    parser.add_argument("--path", default="/readyz", help="path that answers 200 when all is well")
    parser.add_argument("--timeout", type=float, default=4.0, help="seconds to wait at most")
    options = parser.parse_args()
    problem = check(f"http://127.0.0.1:{options.port}{options.path}", timeout_s=options.timeout)
    if problem is not None:
        print(problem, file=sys.stderr)  # noqa: T201  # Docker keeps it in the container's state
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
