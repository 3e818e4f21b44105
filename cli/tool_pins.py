"""What the commands that add, import, approve and remove tools do to the pins."""

from collections.abc import Sequence
from pathlib import Path

from services.kit.settings import SharedSettings
from services.toolenv.catalog import load_catalogue
from services.toolenv.pins import Pins, descriptors


def user_pins() -> Pins:
    """The pins of the user's tool environment."""
    return Pins(SharedSettings().toolwright_home / "toolenv")


def approve_changed(tools: Sequence[str], root: Path) -> None:
    """Approve those that differ from their pin, and say so; for files of the user's own only.

    Args:
        tools: Each `category/tool`, as it was written below `root` just now.
        root: The user's tools root.
    """
    catalogue, pins = load_catalogue((root,)), user_pins()
    for tool, sha256 in _changed(tools, root).items():
        pin = pins.approve(tool, catalogue, sha256=sha256)
        print(f"it differs from what was pinned: approved {tool} as {pin.sha256[:16]}")


def tell_of_change(tools: Sequence[str], root: Path) -> None:
    """Name those that differ from their pin, with the command that offers them again.

    Args:
        tools: Each `category/tool`.
        root: The user's tools root.
    """
    for tool in _changed(tools, root):
        print(f"it differs from what was pinned: `toolwright tools approve {tool}` offers it")


def _changed(tools: Sequence[str], root: Path) -> dict[str, str]:
    """The present digest of each tool that is pinned with another one."""
    known = user_pins().read()
    found = descriptors(load_catalogue((root,)).entries())
    present = {"/".join(key): descriptor.sha256 for key, descriptor in found.items()}
    return {
        tool: present[tool]
        for tool in tools
        if tool in known and tool in present and known[tool].sha256 != present[tool]
    }
