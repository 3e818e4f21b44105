"""Celery worker: one task per sample, safe to repeat.

    celery --app services.evaluator.worker worker

A sample is solved under a lease in Redis, so that a second delivery beside a live worker waits
instead of solving twice. Deliveries whose worker never came back are counted per message: a sample
that keeps killing its worker ends as a recorded infrastructure error instead of circling for ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import redis
import structlog
from celery import Task
from celery.signals import worker_process_shutdown
from pydantic import ValidationError

from services.contracts.context import request_scope
from services.contracts.errors import ResourceExhausted, ServiceError, Unavailable
from services.contracts.evaluator import Sample, SampleResult
from services.contracts.ids import RequestId
from services.evaluator.bootstrap import open_evaluator, open_results
from services.evaluator.campaign import QUEUE_NAME, TASK_NAME
from services.evaluator.lease import lease
from services.evaluator.service import EvaluatorService
from services.evaluator.settings import EvaluatorSettings
from services.kit.logging import configure_logging
from services.kit.queue import create_queue
from services.kit.settings import SharedSettings
from services.kit.worker import ServicePortal

_REDIS_TIMEOUT_S = 10.0

settings = EvaluatorSettings()
shared = SharedSettings()
configure_logging(shared.log_level)
app = create_queue(
    QUEUE_NAME,
    redis_url=shared.redis_url,
    redelivery_s=settings.redelivery_s,
)
log = structlog.get_logger()
_portal: ServicePortal[EvaluatorService] = ServicePortal(partial(open_evaluator, settings, shared))


@worker_process_shutdown.connect
def _stop(**_: object) -> None:
    _portal.close()


@app.task(name=TASK_NAME, bind=True, max_retries=None)
def run_sample(task: Task, sample_json: str, failures: int = 0) -> None:
    """Solve and judge one sample.

    Args:
        task: The Celery task, for retries.
        sample_json: A `Sample` as JSON.
        failures: Earlier attempts that met a planner which was away or full.
    """
    try:
        sample = Sample.model_validate_json(sample_json)
    except ValidationError as exc:
        log.error("sample_refused", errors=exc.error_count(), task_id=task.request.id)
        return
    try:
        again = _run_alone(sample, task_id=task.request.id, failures=failures)
    except redis.RedisError as exc:
        log.warning("redis_away", sample_id=sample.sample_id, error=type(exc).__name__)
        again = failures
    if again is not None:
        raise task.retry(args=(sample_json, again), countdown=settings.retry_s)


def _run_alone(sample: Sample, *, task_id: str, failures: int) -> int | None:
    """Run a sample under its lease; the number of failures to retry it with, `None` when done."""
    name = f"evaluator:{sample.campaign}:{sample.sample_id}"
    with (
        request_scope(RequestId(task_id)),
        redis.Redis.from_url(
            _client_url(shared.redis_url), socket_timeout=_REDIS_TIMEOUT_S
        ) as client,
        lease(client, name, ttl_s=settings.lease_s) as is_mine,
    ):
        if not is_mine:
            return failures
        with _delivery(client, task_id) as lost:
            return _run(sample, lost=lost, failures=failures)


def _run(sample: Sample, *, lost: int, failures: int) -> int | None:
    """Run a sample; the number of failures to retry it with, `None` when it is done."""
    if lost >= settings.max_deliveries:
        _record_failure(sample, f"its worker was lost {lost} times")
        return None
    try:
        _portal.call(lambda service: service.run_sample(sample))
    except (Unavailable, ResourceExhausted) as exc:
        if failures < settings.max_failures:
            log.warning("sample_postponed", sample_id=sample.sample_id, reason=exc.detail)
            return failures + 1
        _record_failure(sample, f"{exc.code}: {exc.detail}")
    except ServiceError as exc:
        _record_failure(sample, f"{exc.code}: {exc.detail}")
    except Exception as exc:
        # Celery would drop the message, and the campaign would wait for a result for ever.
        log.error("sample_crashed", sample_id=sample.sample_id, exc_info=exc)
        _record_failure(sample, f"a defect in the worker: {type(exc).__name__}: {exc}")
    return None


@contextmanager
def _delivery(client: redis.Redis, task_id: str) -> Iterator[int]:
    """Count a delivery while it lasts, and yield how many earlier ones never came to their end."""
    key = f"deliveries:{task_id}"
    lost = int(client.incr(key)) - 1
    client.expire(key, int(settings.redelivery_s * (settings.max_deliveries + 2)))
    try:
        yield lost
    finally:
        client.decr(key)  # not reached when the process is killed


def _record_failure(sample: Sample, reason: str) -> None:
    log.error("sample_failed", sample_id=sample.sample_id, reason=reason)
    open_results(shared).write(
        SampleResult(
            sample_id=sample.sample_id,
            campaign=sample.campaign,
            method=sample.method,
            query_id=sample.query_id,
            outcome="infrastructure_error",
            run="failed",
            reason=reason,
        )
    )


def _client_url(broker_url: str) -> str:
    """Kombu writes a unix socket as `redis+socket:///path`, redis-py as `unix:///path`."""
    return broker_url.replace("redis+socket://", "unix://", 1)
