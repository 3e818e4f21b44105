"""Celery over Redis, configured for tasks that run for minutes and may lose their worker.

Celery's defaults are made for short tasks: an acknowledged task dies with its worker, and an
unacknowledged one is delivered again after an hour. Here a task is acknowledged when it is done, a
lost child gives it back at once, and a lost worker gives it back after `redelivery_s`. Delivery is
at least once: a task must be safe to repeat, also beside itself.
"""

from celery import Celery

_SWEEPS_PER_REDELIVERY = 4
_LONGEST_SWEEP_PAUSE_S = 60.0
_CHILD_START_S = 120.0  # Celery's 4 s kill children that start on a loaded machine, for ever


def create_queue(name: str, *, redis_url: str, redelivery_s: float) -> Celery:
    """Return a Celery application bound to one queue.

    Args:
        name: Name of the application and of its queue.
        redis_url: `redis://host:port/db` or `redis+socket:///path`.
        redelivery_s: Seconds after which a task is delivered again although nobody gave it back;
            up to half as much again passes until it is noticed. A task that takes longer meets
            its own second delivery.
    """
    app = Celery(name, broker=redis_url)
    app.conf.update(
        task_default_queue=name,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_max_tasks_per_child=500,
        worker_proc_alive_timeout=_CHILD_START_S,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": redelivery_s,
            # Kombu looks for lost tasks on every tenth tick of ten seconds otherwise.
            "unacked_restore_interval": min(
                redelivery_s / _SWEEPS_PER_REDELIVERY, _LONGEST_SWEEP_PAUSE_S
            ),
            "unacked_restore_throttle": 1,
            "socket_timeout": 10.0,
            "socket_connect_timeout": 5.0,
        },
    )
    return app
