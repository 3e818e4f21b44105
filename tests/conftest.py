"""Settings shared by all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Two busy cores: OpenMP threads of several processes would spin against each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A busy machine is no failure; endless examples end at the test's own timeout.
settings.register_profile("toolwright", deadline=None)
settings.load_profile("toolwright")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the published ToolBench data and golden trees."""
    folder = os.environ.get("TOOLWRIGHT_SHARED")
    if not folder:
        pytest.skip("TOOLWRIGHT_SHARED is not set: the published ToolBench data is not here")
    return Path(folder) / "data"
