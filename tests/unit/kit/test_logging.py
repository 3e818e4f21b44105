"""A log that cannot be written."""

import errno
import io
import json
import sys
from collections.abc import Iterator

import pytest
import structlog

from services.kit.logging import configure_logging


class FullDisk(io.StringIO):
    """Refuses everything while it is full."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)

    def flush(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FullDisk]:
    stream = FullDisk()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("INFO")
    yield stream
    structlog.reset_defaults()


def test_a_log_on_a_full_disk_loses_lines_and_fails_nobody(disk: FullDisk) -> None:
    structlog.get_logger().info("lost")
    disk.is_full = False
    structlog.get_logger().info("kept", number=1)
    assert [json.loads(line)["event"] for line in disk.getvalue().splitlines()] == ["kept"]
