"""`toolwright bench` says which benchmarks there are."""

import pytest

from cli.bench import bench
from services.contracts.errors import InvalidArgument


@pytest.mark.parametrize("name", ["", "nonsense"])
def test_without_a_known_name_the_benchmarks_are_listed(name: str) -> None:
    with pytest.raises(InvalidArgument, match="name one of: planner, sandbox, stream, toolenv"):
        bench(name)
