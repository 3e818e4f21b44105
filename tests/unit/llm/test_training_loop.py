import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from services.llm.training.__main__ import main
from services.llm.training.checkpoint import load_weights
from services.llm.training.config import ModelShape, TrainingConfig, TrainingError
from services.llm.training.loop import newest_weights, train
from services.llm.training.tokenizer import save_tokenizer
from tests.unit.llm.training_conversations import small_tokenizer, write_file

SHAPE = ModelShape(vocabulary_size=512, n_layers=3, width=64, n_heads=4, hidden=96)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    save_tokenizer(small_tokenizer(folder), folder)
    write_file(folder / "train.jsonl", 60)
    write_file(folder / "more.jsonl", 30, first=500)
    return folder


def config(inputs: Path, output: Path, **changes) -> TrainingConfig:
    values = {
        "data": (inputs / "train.jsonl",),
        "tokenizer": inputs,
        "shape": SHAPE,
        "tokens_per_batch": 1024,
        "max_tokens_per_conversation": 512,
        "threads": 1,
        "warmup_steps": 5,
        "checkpoint_interval_s": 0.0,
        "log_interval_steps": 1,
    }
    return TrainingConfig(output=output, **{**values, **changes})


def logged(output: Path, event: str) -> list[dict]:
    lines = (output / "log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def test_the_loss_falls_and_the_report_counts(inputs, tmp_path):
    report = train(config(inputs, tmp_path, max_steps=25, induction_fraction=0.0))
    losses = [entry["data_loss"] for entry in logged(tmp_path, "step")]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert (report.n_steps, report.n_conversations) == (25, 60)
    assert report.n_tokens == logged(tmp_path, "step")[-1]["n_tokens"]


def test_two_runs_with_one_seed_end_with_the_same_weights(inputs, tmp_path):
    for name in ("a", "b"):
        train(config(inputs, tmp_path / name, max_steps=6))
    (_, first, _), (_, second, _) = (
        load_weights(newest_weights(tmp_path / name)) for name in ("a", "b")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_killed_run_resumes_with_the_batch_it_lost(inputs, tmp_path):
    """The losses of a run killed by SIGKILL and resumed are those of a run never killed."""
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", _CHILD, str(inputs), str(killed)]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()})
    try:
        _wait_for(lambda: _n_steps(killed) >= 8)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=20)
    saved = load_weights(killed / "checkpoint.pt")[2].step
    for output in (killed, tmp_path / "straight"):
        train(config(inputs, output, max_steps=saved + 6, decay_fraction=0.01))
    straight = {e["step"]: e for e in logged(tmp_path / "straight", "step")}
    resumed = [e for e in logged(killed, "step") if e["step"] > saved][-6:]
    for entry in resumed:
        expected = straight[entry["step"]]
        assert entry["n_tokens"] == expected["n_tokens"]
        assert entry.get("data_loss") == expected.get("data_loss")
        assert entry.get("induction_loss") == expected.get("induction_loss")


_CHILD = """
import sys, pathlib
from tests.unit.llm.test_training_loop import config
from services.llm.training.loop import train
train(config(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), max_steps=200))
"""


def _n_steps(output: Path) -> int:
    log = output / "log.jsonl"
    return len(log.read_text().splitlines()) - 1 if log.exists() else 0


def _wait_for(condition, timeout_s: float = 90.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the child did not train in time"
        time.sleep(0.05)


def test_new_data_starts_at_its_beginning_with_the_old_weights(inputs, tmp_path):
    train(config(inputs, tmp_path, max_steps=12))
    before = load_weights(tmp_path / "checkpoint.pt")[2]
    both = (inputs / "train.jsonl", inputs / "more.jsonl")
    train(config(inputs, tmp_path, max_steps=before.step + 4, data=both, decay_fraction=0.01))
    after = load_weights(newest_weights(tmp_path))[2]
    assert after.step == before.step + 4
    assert after.data_position <= 4 < before.data_position
    assert after.data_sha256 != before.data_sha256


def test_a_run_stops_at_its_time_with_a_decayed_rate(inputs, tmp_path):
    began = time.time()
    train(config(inputs, tmp_path, stop_at=began + 3.0))
    assert time.time() - began < 20
    assert logged(tmp_path, "step")[-1]["factor"] < 0.5


def test_pretraining_needs_no_data(tmp_path):
    report = train(
        TrainingConfig(output=tmp_path, shape=SHAPE, max_steps=3, threads=1, tokens_per_batch=2048)
    )
    assert (report.n_steps, report.n_conversations, report.data_sha256) == (3, 0, "")


def test_a_checkpoint_of_another_shape_is_refused(inputs, tmp_path):
    train(config(inputs, tmp_path, max_steps=10))
    other = ModelShape(vocabulary_size=512, n_layers=4, width=64, n_heads=4, hidden=96)
    with pytest.raises(TrainingError, match="another output folder"):
        train(config(inputs, tmp_path, max_steps=20, shape=other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": None}, "needs an end"),
        ({"tokenizer": None}, "tokenizer"),
        ({"decay_fraction": 0.0}, "decay_fraction 0.0"),
        ({"max_tokens_per_conversation": 9999}, "9999 exceeds"),
    ],
)
def test_an_impossible_configuration_is_refused(inputs, tmp_path, changes, message):
    with pytest.raises(TrainingError, match=message):
        config(inputs, tmp_path, **{"max_steps": 3, **changes})


def test_the_command_line_trains_scores_and_exports(inputs, tmp_path, capsys):
    main(
        f"--data {inputs}/train.jsonl --tokenizer {inputs} --output {tmp_path}/run --max-steps 3 "
        "--vocabulary-size 512 --layers 3 --width 64 --threads 1 "
        f"--export {tmp_path}/model --score {inputs}/more.jsonl".split()
    )
    report, scores = map(json.loads, capsys.readouterr().out.splitlines())
    assert report["n_steps"] == 3
    assert "more: call_exact (teacher-forced)" in scores
    assert (tmp_path / "model" / "model.safetensors").exists()
