"""Plans an evaluation: query files and methods become samples with stable ids."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from services.contracts.apis import ApiRef
from services.contracts.base import ForeignModel
from services.contracts.errors import InvalidArgument
from services.contracts.evaluator import ExpectedAnswer, Sample
from services.contracts.ids import SampleId
from services.contracts.methods import parse_method
from services.contracts.planner import Limits
from services.contracts.retriever import MAX_TEXT_CHARS
from services.contracts.toolbench.names import (
    api_identifier,
    standardize,
    standardize_category,
)
from services.evaluator.judge import check_judgeable

QUEUE_NAME = "evaluator"
TASK_NAME = "evaluator.run_sample"
"""What a producer sends to: one task per sample, its only argument the sample as JSON."""


class _ListedApi(ForeignModel):
    category_name: str = Field(min_length=1)
    tool_name: str = Field(min_length=1)
    api_name: str = Field(min_length=1)


class CheckableQuery(ForeignModel):
    """A ToolBench query whose answer can be checked (decision 13)."""

    query_id: int
    query: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)
    api_list: tuple[_ListedApi, ...] = Field(default=(), validate_default=False)
    answer: ExpectedAnswer
    template_id: str = ""


_QUERIES = TypeAdapter(list[CheckableQuery])


def read_checkable_queries(files: Iterable[Path]) -> list[CheckableQuery]:
    """Read query files.

    Raises:
        InvalidArgument: A file is missing or malformed, an answer cannot be judged, or a query id
            occurs twice; the detail names file and entry.
    """
    found: dict[int, CheckableQuery] = {}
    for file in files:
        for query in _read(file):
            if query.query_id in found:
                raise InvalidArgument(
                    f"{file.name}: query_id {query.query_id} occurs twice; methods are compared "
                    "query by query, so every one needs its own"
                )
            found[query.query_id] = query
    return list(found.values())


def _read(file: Path) -> list[CheckableQuery]:
    try:
        queries = _QUERIES.validate_json(file.read_bytes())
    except OSError as exc:
        raise InvalidArgument(f"cannot read query file {str(file)!r}: {exc.strerror}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidArgument(f"{file.name}: entry {where}: {first['msg']}") from exc
    for query in queries:
        try:
            check_judgeable(query.answer)
        except InvalidArgument as exc:
            raise InvalidArgument(f"{file.name}: query_id {query.query_id}: {exc.detail}") from exc
    return queries


def plan_samples(
    queries: Sequence[CheckableQuery],
    *,
    campaign: str,
    methods: Sequence[str],
    open_domain: bool,
    top_k: int,
    limits: Limits,
    seed: int,
) -> list[Sample]:
    """One sample per query and method, methods in turn for each query.

    A method that is named twice, also by its alias, counts once.

    Raises:
        InvalidArgument: A method is unknown, a closed-domain query lists no API, or a value is
            outside the limits of `Sample`.
    """
    names = dict.fromkeys(parse_method(method).name for method in methods)
    return [
        _sample(
            query,
            campaign=campaign,
            method=name,
            open_domain=open_domain,
            top_k=top_k,
            limits=limits,
            seed=seed,
        )
        for query in queries
        for name in names
    ]


def _sample(
    query: CheckableQuery,
    *,
    campaign: str,
    method: str,
    open_domain: bool,
    top_k: int,
    limits: Limits,
    seed: int,
) -> Sample:
    if not open_domain and not query.api_list:
        raise InvalidArgument(f"query {query.query_id} lists no API; use --open-domain")
    apis = None if open_domain else tuple(_ref(api) for api in query.api_list)
    content = [
        query.query_id,
        query.query,
        method,
        None if apis is None else [str(ref) for ref in apis],
        top_k,
        limits.model_dump(mode="json"),
        seed,
        query.answer.model_dump(mode="json"),  # a corrected answer needs a new verdict
    ]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    try:
        return Sample(
            sample_id=SampleId(f"{query.query_id}_{method}_{digest}"),
            campaign=campaign,
            query_id=query.query_id,
            instruction=query.query,
            method=method,
            apis=apis,
            top_k=top_k,
            expected=query.answer,
            limits=limits,
            seed=seed,
        )
    except ValidationError as exc:
        first = exc.errors()[0]
        raise InvalidArgument(f"{first['loc'][0]} {first['input']!r}: {first['msg']}") from exc


def _ref(api: _ListedApi) -> ApiRef:
    return ApiRef(
        category=standardize_category(api.category_name),
        tool=standardize(api.tool_name),
        api=api_identifier(api.api_name),
    )
