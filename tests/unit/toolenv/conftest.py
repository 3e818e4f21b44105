"""Fixtures of the tool environment's tests."""

from collections.abc import Iterator

import pytest

from services.toolenv.catalog import CatalogueEntry
from tests.fakes.tool_sandbox import FakeSandbox, make_entry
from tests.fakes.toolbench_backend import Backend, serve_backend


@pytest.fixture
def entry() -> CatalogueEntry:
    return make_entry()


@pytest.fixture
def sandbox() -> FakeSandbox:
    return FakeSandbox()


@pytest.fixture
def backend() -> Iterator[Backend]:
    with serve_backend() as state:
        yield state
