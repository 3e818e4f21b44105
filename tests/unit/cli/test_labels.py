"""The line that says where an answer came from."""

from cli.labels import label_of
from services.contracts.toolenv import Attempt, CallStatus, Observation


def label(**fields: object) -> str:
    known = {"status": CallStatus.OK, "content": "", "latency_s": 0.0042}
    return label_of(Observation.model_validate(known | fields))


def test_a_replay_says_of_what_and_how_old_and_never_looks_live() -> None:
    text = label(source="replay", recorded_source="live", age_s=3 * 86_400.0, key="ab" * 32)
    assert text == "ok from replay (of live) | recorded 3 d ago | 4.2 ms | key abababababab"


def test_a_simulation_is_unmistakable() -> None:
    assert "a language model played the API" in label(source="simulated")


def test_a_failure_names_who_failed_and_what_was_tried_before() -> None:
    attempts = (Attempt(source="replay", reason="no recording of A\nb"),)
    text = label(status="rate_limited", source="error", tried="live", retry_after_s=30,
                 upstream_status=429, attempts=attempts)  # fmt: skip
    assert text.startswith("rate_limited from live (failed) | upstream HTTP 429")
    assert "retry after 30 s" in text
    assert text.endswith("before it replay declined: no recording of A b")
    assert "\n" not in text
