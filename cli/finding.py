"""What one check of `toolwright doctor` found."""

from typing import NamedTuple


class Finding(NamedTuple):
    """Outcome of one check."""

    name: str
    is_ok: bool
    detail: str
    """What there is; of a failed check what to do about it."""
