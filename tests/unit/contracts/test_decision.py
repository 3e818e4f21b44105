"""The answer to a question for approval."""

import pytest
from pydantic import ValidationError

from services.contracts.planner import Decision


@pytest.mark.parametrize("said", ['"yes"', '"t"', '"false"', "1", "0", "null"])
def test_an_approval_is_a_plain_yes_or_no(said: str) -> None:
    with pytest.raises(ValidationError):
        Decision.model_validate_json(f'{{"approve": {said}}}')


def test_yes_and_no_are_taken() -> None:
    assert Decision.model_validate_json('{"approve": true}').approve
    assert not Decision(approve=False).approve
