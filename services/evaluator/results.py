"""One file per sample: `<root>/<campaign>/<sample id>.json`, written once."""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from services.contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from services.contracts.evaluator import SampleResult
from services.contracts.ids import SampleId

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._@-]{0,149}")
_SUFFIX: Final = ".json"
_WRITER_LOCK: Final = ".writer"
_RUN_LOCK: Final = ".run"
log = structlog.get_logger()


class ResultStore:
    """Results on a local file system. Safe for concurrent writers in threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, campaign: str, sample_id: SampleId) -> SampleResult | None:
        """The result of a sample, `None` when there is none yet.

        A file that cannot be parsed counts as none and is overwritten: it was not written by us.

        Raises:
            InvalidArgument: A name that could leave the store's folder.
        """
        return _parse(self._path(campaign, sample_id))

    def write(self, result: SampleResult) -> bool:
        """Store a result; the first final one wins.

        Returns:
            Whether this call's result is the stored one. An infrastructure error is not final: any
            later result replaces it.

        Raises:
            InvalidArgument: A name that could leave the store's folder.
        """
        path = self._path(result.campaign, result.sample_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(_WRITER_LOCK)):  # held for one read and one rename
            stored = _parse(path)
            if stored is not None and stored.outcome != "infrastructure_error":
                return False
            _write_atomically(path, result.model_dump_json(indent=1))
            return True

    def discard(self, campaign: str, sample_id: SampleId) -> None:
        """Forget a sample's result, if there is one, so that it is run again."""
        self._path(campaign, sample_id).unlink(missing_ok=True)

    def sample_ids(self, campaign: str) -> set[SampleId]:
        """Samples that have a result file, readable or not; empty for an unknown campaign."""
        files = self._folder(campaign).glob(f"*{_SUFFIX}")
        return {SampleId(file.name.removesuffix(_SUFFIX)) for file in files}

    def campaign(self, campaign: str) -> list[SampleResult]:
        """Every result of a campaign, ordered by method and query.

        Raises:
            NotFound: No such campaign.
        """
        folder = self._folder(campaign)
        if not folder.is_dir():
            raise NotFound(f"no campaign {campaign!r}; there are {sorted(self._campaigns())}")
        files = sorted(folder.glob(f"*{_SUFFIX}"))
        results = [result for file in files if (result := _parse(file))]
        return sorted(results, key=lambda result: (result.method, result.query_id))

    def runs_folder(self, campaign: str) -> Path:
        """Where the runs of a campaign may be kept; nothing in it is taken for a result."""
        return self._folder(campaign) / "runs"

    @contextmanager
    def claim(self, campaign: str) -> Iterator[None]:
        """Run the block as the only one that runs this campaign; the claim dies with the process.

        Raises:
            FailedPrecondition: Another process runs it.
        """
        folder = self._folder(campaign)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _RUN_LOCK).open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise FailedPrecondition(
                    f"campaign {campaign!r} is being run by another process; wait for it, or "
                    "choose another --campaign"
                ) from exc
            yield

    def _campaigns(self) -> Iterator[str]:
        if self._root.is_dir():
            yield from (folder.name for folder in self._root.iterdir() if folder.is_dir())

    def _folder(self, campaign: str) -> Path:
        return self._root / _safe(campaign, "campaign")

    def _path(self, campaign: str, sample_id: SampleId) -> Path:
        return self._folder(campaign) / f"{_safe(sample_id, 'sample id')}{_SUFFIX}"


def _safe(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{what} {name[:200]!r} is no file name: use 1 to 150 of A-Z a-z 0-9 . _ @ -, and no "
            "dot first"
        )
    return name


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_atomically(path: Path, text: str) -> None:
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def _parse(path: Path) -> SampleResult | None:
    try:
        return SampleResult.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        log.warning("result_unreadable", path=str(path))
        return None
