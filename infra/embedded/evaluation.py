"""Runs an evaluation campaign on the embedded system: through the queue, as on a cluster."""

import asyncio
import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.embedded.assets import bundled_instructions, local_model
from infra.embedded.host import HostOptions, open_queue, open_system
from services.contracts.errors import DeadlineExceeded, InvalidArgument
from services.contracts.evaluator import Report, Sample, SampleResult
from services.contracts.ids import SampleId
from services.contracts.llm import ModelInfo
from services.contracts.methods import asks_in_words, parse_method
from services.contracts.planner import Limits
from services.evaluator.bootstrap import open_results
from services.evaluator.campaign import (
    QUEUE_NAME,
    TASK_NAME,
    CheckableQuery,
    plan_samples,
    read_checkable_queries,
)
from services.evaluator.report import summarise
from services.evaluator.results import ResultStore
from services.evaluator.settings import EvaluatorSettings
from services.kit.queue import create_queue
from services.kit.settings import SharedSettings
from services.planner.journal.shelf import Shelf

_SETS = {f"bundled-{split}": split for split in ("dev", "test", "transfer")}
_POLL_S = 0.25
_QUEUE_MARGIN_S = 120.0
_LIMITS = Limits(max_depth=24, max_llm_calls=40, deadline_s=120)


def load_set(name: str, *, limit: int | None, seed: int) -> list[CheckableQuery]:
    """Queries of a bundled set or of a file, or a seeded choice of `limit` of them.

    Raises:
        InvalidArgument: No such set or file.
    """
    split = _SETS.get(name)
    if split is None and not Path(name).is_file():
        raise InvalidArgument(f"no set {name!r}; use a query file or one of {sorted(_SETS)}")
    files = sorted(bundled_instructions().glob(f"G*_{split}.json")) if split else [Path(name)]
    queries = read_checkable_queries(files)
    if limit is None or limit >= len(queries):
        return queries
    return random.Random(seed).sample(queries, limit)


def campaign_name(set_name: str, shared: SharedSettings, constrain: str) -> str:
    """Default name: the set and the model, so that another model never meets old results."""
    if shared.llm_base_url is not None:
        identity = f"{shared.llm_base_url} {shared.llm_model}".encode()
    else:
        identity = (local_model() / "model.safetensors").read_bytes() + constrain.encode()
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(set_name).stem).strip("-")[:60] or "set"
    return f"{stem}-{hashlib.sha256(identity).hexdigest()[:10]}"


async def run_campaign(
    queries: Sequence[CheckableQuery],
    *,
    shared: SharedSettings,
    campaign: str,
    methods: Sequence[str],
    open_domain: bool,
    top_k: int,
    seed: int,
    on_done: Callable[[SampleResult], None],
) -> Report:
    """Solve and judge every query with every method, and summarise.

    Samples that have a result already are not run again; one campaign runs once at a time.

    Raises:
        InvalidArgument: A value is outside its limits, or there are too many samples.
        FailedPrecondition: Another process runs this campaign.
        Unavailable: Redis or the worker ended; what has a result keeps it.
        DeadlineExceeded: No result came for longer than any sample may take.
    """
    settings = EvaluatorSettings()
    samples = plan_samples(
        queries,
        campaign=campaign,
        methods=methods,
        open_domain=open_domain,
        top_k=top_k,
        limits=_LIMITS,
        seed=seed,
    )
    if len(samples) > settings.max_queued:
        raise InvalidArgument(
            f"{len(samples)} samples exceed EVALUATOR_MAX_QUEUED={settings.max_queued}; "
            "evaluate fewer at once with --limit"
        )
    results = open_results(shared)
    left_out: dict[str, str] = {}
    with results.claim(campaign):
        pending = _pending(samples, results, on_done)
        if pending:
            options = host_options(results, campaign)
            async with open_system(shared, options) as system, open_queue(system) as redis_url:
                left_out = _unfit(methods, await system.model.describe())
                pending = [sample for sample in pending if sample.method not in left_out]
                await asyncio.to_thread(_submit, pending, redis_url, settings)
                await _wait(pending, results, on_done, stall_s=_stall_s(settings))
    chosen = {sample.sample_id for sample in samples}
    judged = [result for result in results.campaign(campaign) if result.sample_id in chosen]
    return summarise(campaign, judged).model_copy(update={"left_out": left_out})


def host_options(results: ResultStore, campaign: str) -> HostOptions:
    """The system that a campaign is run on.

    The same number twice: nobody's own tools take part. Its runs are kept beside its results, not
    among those of the user, which they would push out.
    """
    return HostOptions(with_user_tools=False, runs=Shelf.unlimited(results.runs_folder(campaign)))


def _unfit(methods: Sequence[str], model: ModelInfo) -> dict[str, str]:
    """Methods that this model cannot follow, with the reason."""
    if model.follows_instructions:
        return {}
    reason = f"asks the model in words, and {model.model!r} only proposes calls"
    parsed = [parse_method(name) for name in methods]
    return {method.name: reason for method in parsed if asks_in_words(method)}


def _pending(
    samples: Sequence[Sample], results: ResultStore, on_done: Callable[[SampleResult], None]
) -> list[Sample]:
    """Samples without a final result; an infrastructure error is no final result."""
    pending = []
    for sample in samples:
        stored = results.read(sample.campaign, sample.sample_id)
        if stored is None or stored.outcome == "infrastructure_error":
            results.discard(sample.campaign, sample.sample_id)
            pending.append(sample)
        else:
            on_done(stored)
    return pending


def _submit(samples: Sequence[Sample], redis_url: str, settings: EvaluatorSettings) -> None:
    queue = create_queue(QUEUE_NAME, redis_url=redis_url, redelivery_s=settings.redelivery_s)
    with queue.connection_for_write() as connection:
        for sample in samples:
            queue.send_task(TASK_NAME, args=[sample.model_dump_json()], connection=connection)


def _stall_s(settings: EvaluatorSettings) -> float:
    """Longest time in which a working queue finishes nothing: a sample that loses every worker."""
    delivery_s = settings.redelivery_s * 1.5 + settings.lease_s + _LIMITS.deadline_s
    patience_s = settings.max_failures * settings.retry_s
    return settings.max_deliveries * delivery_s + patience_s + _QUEUE_MARGIN_S


async def _wait(
    samples: Sequence[Sample],
    results: ResultStore,
    on_done: Callable[[SampleResult], None],
    *,
    stall_s: float,
) -> None:
    waiting = {sample.sample_id: sample.campaign for sample in samples}
    loop = asyncio.get_running_loop()
    last_news = loop.time()
    while waiting:
        for result in await asyncio.to_thread(_arrived, waiting, results):
            del waiting[result.sample_id]
            on_done(result)
            last_news = loop.time()
        if loop.time() - last_news > stall_s:
            raise DeadlineExceeded(
                f"{len(waiting)} samples have no result and none came for {stall_s:.0f} s; "
                "see worker.log in the home folder"
            )
        await asyncio.sleep(_POLL_S)


def _arrived(waiting: Mapping[SampleId, str], results: ResultStore) -> list[SampleResult]:
    """Results of the samples waited for: one listing per campaign, however many there are."""
    found = []
    for campaign in set(waiting.values()):
        for sample_id in results.sample_ids(campaign) & waiting.keys():
            result = results.read(campaign, sample_id)
            if result is not None:
                found.append(result)
    return found
