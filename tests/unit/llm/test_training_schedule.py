import pytest

from services.llm.training.schedule import Schedule


def schedule(max_steps: int | None = None, stop_at: float | None = None) -> Schedule:
    return Schedule(
        warmup_steps=10, decay_fraction=0.2, max_steps=max_steps, stop_at=stop_at, started_at=1000.0
    )


def test_the_rate_warms_up_stays_and_decays():
    plan = schedule(max_steps=100)
    factors = [plan.factor(step, 0.0) for step in (0, 4, 9, 50, 80, 90, 99)]
    assert factors[:5] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0])
    assert 1.0 > factors[5] > factors[6] > 0.0


def test_the_clock_ends_a_run_after_a_decay():
    plan = schedule(stop_at=2000.0)
    assert plan.factor(500, 1700.0) == 1.0
    assert plan.is_decaying(500, 1850.0) and not plan.is_over(500, 1850.0)
    assert plan.is_over(500, 2000.0)


def test_the_sooner_end_counts():
    plan = schedule(max_steps=100, stop_at=2000.0)
    assert plan.is_over(100, 1100.0)
    assert plan.is_over(20, 2100.0)


def test_a_rate_never_falls_to_zero():
    plan = schedule(max_steps=100)
    assert plan.factor(100, 0.0) == plan.floor
