"""Base models of everything that crosses a service boundary."""

from pydantic import BaseModel, ConfigDict


class WireModel(BaseModel):
    """Immutable value of our own protocol; an unknown field is refused.

    Frozen so that embedded mode (one object on both sides) cannot behave differently from HTTP
    mode (a copy on each side).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class ForeignModel(BaseModel):
    """Immutable value of somebody else's protocol or of a response; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")
