"""The one place that finds what is shipped in `data/`."""

from pathlib import Path

from infra.embedded.settings import EmbeddedSettings
from services.contracts.errors import FailedPrecondition

_DATA = Path(__file__).resolve().parents[2] / "data"
MODEL_NAME = "toolwright-mini"


def _existing(path: Path, what: str) -> Path:
    if not path.exists():
        raise FailedPrecondition(
            f"{what} is missing: {path}; run Toolwright from a complete checkout"
        )
    return path


def bundled_tools() -> Path:
    """Root of the bundled tool documents, in ToolBench's layout."""
    return _existing(_DATA / "toolenv" / "tools", "the bundled toolset")


def bundled_instructions() -> Path:
    """Folder of the bundled query files, intents and vocabularies."""
    return _existing(_DATA / "instructions", "the folder of bundled instructions")


def local_model() -> Path:
    """Folder of the model that this process serves itself: the one set, else the bundled one."""
    return EmbeddedSettings().model_path or bundled_model()


def bundled_model() -> Path:
    """Folder of the embedded demonstration model."""
    return _existing(_DATA / "models" / MODEL_NAME, "the embedded model")
