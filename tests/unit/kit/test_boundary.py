"""Foreign exceptions become service errors once."""

import asyncio

import pytest

from services.contracts.errors import Internal, NotFound, Unavailable
from services.kit.boundary import attribute_to

pytestmark = pytest.mark.anyio


async def test_a_foreign_exception_is_blamed_on_the_boundary() -> None:
    with pytest.raises(Unavailable, match=r"^load corpus: OSError: gone$") as caught:
        async with attribute_to(Unavailable, "load corpus"):
            raise OSError("gone")
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_service_error_keeps_its_first_attribution() -> None:
    with pytest.raises(NotFound, match="^no such API$"):
        async with attribute_to(Unavailable, "outer"), attribute_to(Internal, "inner"):
            raise NotFound("no such API")


async def test_a_cancellation_is_nobodys_fault() -> None:
    with pytest.raises(asyncio.CancelledError):
        async with attribute_to(Internal, "work"):
            raise asyncio.CancelledError


async def test_a_block_that_succeeds_is_left_alone() -> None:
    async with attribute_to(Internal, "work"):
        done = True
    assert done
