"""`toolwright cassettes`: recorded answers of tools, and snapshots of them.

Works on the files under `TOOLWRIGHT_HOME` directly, whether a server uses them or not.
"""

import datetime
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.contracts.errors import InvalidArgument
from services.contracts.toolenv import ObservationSource
from services.kit.settings import SharedSettings
from services.toolenv.cassettes.exchange import (
    Imported,
    export_lines,
    import_lines,
    import_snapshot,
)
from services.toolenv.cassettes.recording import Recording
from services.toolenv.cassettes.rows import Conflict, Filter
from services.toolenv.cassettes.snapshot import Snapshot, default_folder, freeze, open_snapshot
from services.toolenv.cassettes.stabletoolbench import CacheImport, import_cache
from services.toolenv.cassettes.store import MAX_MISSES, Store, age_s, check_key, default_path

app = typer.Typer(help="List, freeze, export and import recorded answers.", no_args_is_help=True)

_SHOWN_CHARS = 60
_SHOWN_REFUSALS = 20
_DAY_S = 86_400.0

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OfApi = Annotated[
    str | None, typer.Option("--api", help="category, category/tool or category/tool/api.")
]
OfSource = Annotated[
    str | None, typer.Option("--source", help="Who gave the answer, e.g. live or remote.")
]
OfSnapshot = Annotated[
    str | None, typer.Option("--snapshot", help="A snapshot's file or hash, not the store.")
]


@app.command()
def info(as_json: AsJson = False) -> None:
    """Show how much is recorded, and where."""
    path = _path()
    if not path.exists():
        _print_fields({"path": str(path), "entries": 0}, as_json=as_json)
        return
    with _store() as store:
        found = store.info()
    fields = {"path": str(path), "bytes": found.n_bytes, **found.summary._asdict()}
    snapshots = sorted(file.stem for file in _folder().glob("*.db"))
    _print_fields({**fields, "snapshots": snapshots}, as_json=as_json)


@app.command("list")
def list_recordings(
    api: OfApi = None,
    source: OfSource = None,
    snapshot: OfSnapshot = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List recordings, the newest first."""
    with _source(snapshot) as shelf:
        found = list(shelf.recordings(_filter(api, source), order="newest", limit=limit))
    if as_json:
        print(json.dumps([_fields(recording) for recording in found]))
        return
    table = Table("key", "API", "arguments", "status", "source", "age", box=None)
    for recording in found:
        table.add_row(
            recording.key[:12],
            _plain(str(recording.ref)),
            _plain(recording.arguments),
            recording.status.value,
            recording.source,
            _age(recording.recorded_at),
        )
    Console().print(table)


@app.command()
def misses(
    limit: Annotated[int, typer.Option(min=1, max=MAX_MISSES, help="At most so many.")] = 50,
    clear: Annotated[bool, typer.Option(help="Empty the list instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """List calls that were looked up and are not recorded, the most recent first."""
    with _store() as store:
        if clear:
            print(f"{store.clear_misses()} misses struck off the list")
            return
        found = store.misses(limit=limit)
    if as_json:
        rows = [{**miss._asdict(), "arguments": json.loads(miss.arguments)} for miss in found]
        print(json.dumps(rows))
        return
    table = Table("key", "API", "arguments", "times", "last", box=None)
    for miss in found:
        address = _plain(f"{miss.category}/{miss.tool}/{miss.api}")
        age = _age(miss.last_at)
        table.add_row(miss.key[:12], address, _plain(miss.arguments), str(miss.times), age)
    Console().print(table)


@app.command("import")
def import_path(
    path: Annotated[
        Path, typer.Argument(help="An export, a snapshot, or a StableToolBench cache folder.")
    ],
    replace: Annotated[
        bool, typer.Option(help="Replace answers of calls that are recorded already.")
    ] = False,
    sha256: Annotated[
        str | None, typer.Option(help="The hash that an export or snapshot must have.")
    ] = None,
    keep_failures: Annotated[
        bool, typer.Option(help="Of a cache folder: take failures of its server as well.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read recordings into the store: all of a file, or what is usable of a cache folder."""
    conflict: Conflict = "replace" if replace else "keep"
    with _store() as store:
        if path.is_dir():
            if sha256 is not None:
                raise InvalidArgument("--sha256 is for exports and snapshots; a folder has no hash")
            _report_cache(
                import_cache(store, path, keep_failures=keep_failures, on_conflict=conflict),
                as_json=as_json,
            )
            return
        read = import_snapshot if path.suffix == ".db" else import_lines
        done = read(store, path, expected_sha256=sha256, on_conflict=conflict)
    _report_import(done, as_json=as_json)


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="File to write, e.g. weather.jsonl.gz.")],
    api: OfApi = None,
    source: OfSource = None,
    snapshot: OfSnapshot = None,
    as_json: AsJson = False,
) -> None:
    """Write recordings as compressed JSON lines in a canonical order."""
    with _source(snapshot) as shelf:
        seal = export_lines(shelf, path, wanted=_filter(api, source))
    _print_fields({"path": str(path), **seal._asdict()}, as_json=as_json)


@app.command("freeze")
def freeze_store(
    output: Annotated[
        Path | None, typer.Option(help="File or folder; default: toolenv/snapshots/<hash>.db.")
    ] = None,
    api: OfApi = None,
    source: OfSource = None,
    as_json: AsJson = False,
) -> None:
    """Make an immutable snapshot, named after the hash of what it holds."""
    with _store() as store:
        frozen = freeze(store, output or _folder(), wanted=_filter(api, source))
    _print_fields({"path": str(frozen.path), **frozen.seal._asdict()}, as_json=as_json)


@app.command()
def verify(
    snapshot: Annotated[str, typer.Argument(help="A snapshot's file, or digits of its hash.")],
    as_json: AsJson = False,
) -> None:
    """Check that a snapshot holds what its hash says; exit status 0 only then."""
    with closing(open_snapshot(snapshot, _folder())) as found:
        _print_fields({"path": str(found.path), **found.seal._asdict()}, as_json=as_json)


@app.command()
def delete(
    api: OfApi = None,
    source: OfSource = None,
    key: Annotated[str | None, typer.Option(help="One recording, by its whole key.")] = None,
    older_than_days: Annotated[
        float | None, typer.Option(min=0, help="Only what was recorded before so many days.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Without any other condition.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove recordings from the store; snapshots are never changed."""
    before = None if older_than_days is None else time.time() - older_than_days * _DAY_S
    wanted = _filter(api, source, key=key, before=before)
    if (wanted == Filter()) is not everything:
        raise InvalidArgument(
            "say what to delete with --api, --source, --key or --older-than-days, or --all alone"
        )
    with _store() as store:
        _print_fields({"deleted": store.delete(wanted)}, as_json=as_json)


def _path() -> Path:
    return default_path(SharedSettings().toolwright_home)


def _folder() -> Path:
    return default_folder(SharedSettings().toolwright_home)


@contextmanager
def _store() -> Iterator[Store]:
    with closing(Store(_path())) as store:
        yield store


@contextmanager
def _source(snapshot: str | None) -> Iterator[Store | Snapshot]:
    """The store, or a snapshot if one is named."""
    shelf = Store(_path()) if snapshot is None else open_snapshot(snapshot, _folder())
    with closing(shelf):
        yield shelf


def _filter(
    api: str | None,
    source: str | None,
    *,
    key: str | None = None,
    before: float | None = None,
) -> Filter:
    parts = [] if api is None else api.split("/")
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(
            f"--api {api!r} is not of the form category, category/tool or category/tool/api"
        )
    category, tool, name = (*parts, None, None, None)[:3]
    return Filter(
        category=category,
        tool=tool,
        api=name,
        key=None if key is None else check_key(key),
        source=_known(source),
        before=before,
    )


def _known(source: str | None) -> ObservationSource | None:
    known: tuple[ObservationSource, ...] = get_args(ObservationSource)
    for name in known:
        if name == source:
            return name
    if source is None:
        return None
    raise InvalidArgument(f"--source {source!r} is none of {', '.join(known)}")


def _fields(recording: Recording) -> dict[str, object]:
    return {**recording._asdict(), "arguments": json.loads(recording.arguments)}


def _report_import(done: Imported, *, as_json: bool) -> None:
    _print_fields({**done.seal._asdict(), **done.added._asdict()}, as_json=as_json)


def _report_cache(done: CacheImport, *, as_json: bool) -> None:
    refused = [refusal._asdict() for refusal in done.refused]
    counts = {"files": done.files, **done.added._asdict(), "repeated": done.repeated}
    if as_json:
        print(json.dumps({**counts, "refused": refused}))
        return
    for refusal in done.refused[:_SHOWN_REFUSALS]:
        where = f"{refusal.file}: {refusal.key}" if refusal.key else refusal.file
        typer.echo(f"refused {_plain(where, limit=200)}: {_plain(refusal.reason, limit=300)}")
    if len(refused) > _SHOWN_REFUSALS:
        typer.echo(f"and {len(refused) - _SHOWN_REFUSALS} more; --json lists all of them")
    _print_fields({**counts, "refused": len(refused)}, as_json=False)


def _print_fields(fields: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(fields))
        return
    for name, value in fields.items():
        print(f"{name.replace('_', ' ')}: {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, float):
        return datetime.datetime.fromtimestamp(value, datetime.UTC).isoformat(timespec="seconds")
    return "none" if value is None else str(value)


def _plain(text: str, *, limit: int = _SHOWN_CHARS) -> Text:
    """Text of a tool or a model on one line, without what a terminal would obey."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return Text("".join(character if character.isprintable() else "�" for character in cut))


def _age(recorded_at: float) -> str:
    return f"{datetime.timedelta(seconds=int(age_s(recorded_at)))}"
