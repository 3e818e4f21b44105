"""Reading ToolLLaMA's texts from published files. The texts themselves are not in this repository:
the tests find them in the shared data, and build the other kinds of file from them."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.contracts.compat import NONE, TOOLBENCH
from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.planner.prompts.base import Candidate, fingerprint
from services.planner.prompts.library import TOOLLLAMA, PromptLibrary
from services.planner.prompts.published import FINGERPRINTS, is_genuine, published_texts

BACKTRACKED = "G3_answer/3_ChatGPT_DFS_woFilter_w2.json"
STRAIGHT = "G1_answer/10_ChatGPT_DFS_woFilter_w2.json"  # no back-tracking, the older Finish


@pytest.fixture(scope="module")
def answers(shared_data: Path) -> Path:
    return shared_data / "toolbench_answers"


@pytest.fixture(scope="module")
def texts(answers: Path) -> Mapping[str, str]:
    return found_in((answers / BACKTRACKED).read_bytes())


def found_in(data: bytes) -> dict[str, str]:
    return published_texts(io.BytesIO(data))


def training_file(
    texts: Mapping[str, str], *, samples: int = 3, is_processed: bool = True
) -> bytes:
    system = texts["system"].replace("{task_description}", texts["header"] + "1.t: None\n")
    finish = {
        "name": "Finish",
        "description": texts["finish"],
        "parameters": {"properties": {"final_answer": {"description": texts["final_answer"]}}},
    }
    if is_processed:
        anchor = "with a function call to actually excute your step."
        block = " Your output should follow this format:\nThought:\nAction\nAction Input:\n"
        system = system.replace(anchor, anchor + block)
    system += f"\nSpecifically, you have access to the following APIs: {[finish]}"
    again = texts["diversity"].replace(
        "{previous_candidate}", json.dumps([{"name": "a"}], indent=2)
    )
    turns = [
        {"from": "system", "value": system},
        {"from": "user", "value": "\nask\nBegin!\n"},
        {"from": "user", "value": again},
    ]
    return json.dumps([{"id": "x", "conversations": turns}] * samples).encode()


def test_an_answer_file_with_backtracking_has_every_text(texts: Mapping[str, str]) -> None:
    assert texts.keys() == FINGERPRINTS.keys()
    assert all(is_genuine(field, text) for field, text in texts.items())


def test_one_without_backtracking_lacks_the_diversity_text(answers: Path) -> None:
    found = found_in((answers / STRAIGHT).read_bytes())
    assert FINGERPRINTS.keys() - found.keys() == {"diversity"}


@pytest.mark.parametrize("is_processed", [True, False])
def test_a_training_file_has_every_text(texts: Mapping[str, str], is_processed: bool) -> None:
    assert found_in(training_file(texts, is_processed=is_processed)) == texts


def test_a_training_file_is_read_no_further_than_needed(texts: Mapping[str, str]) -> None:
    whole = training_file(texts, samples=2_000)
    stream = io.BytesIO(whole[: len(whole) // 2])  # the rest may be missing or broken
    assert published_texts(stream) == texts


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"[1, 2",
        b"[]",
        b"{}",
        b'{"answer_generation": 3}',
        b'[{"conversations": 1}]',
    ]
    + [
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"answer_generation": {"function": [null, {"name": "Finish"}]}}',
    ],
)
def test_any_other_file_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        found_in(data)


def test_a_changed_text_is_not_taken(texts: Mapping[str, str]) -> None:
    assert not is_genuine("header", texts["header"].replace("1", "2", 1))
    assert not is_genuine("header", texts["header"] + " ")


def test_imports_add_up_and_prefer_the_current_finish(answers: Path, tmp_path: Path) -> None:
    library = PromptLibrary(tmp_path)
    assert library.import_file(answers / BACKTRACKED).missing == ()
    library.import_file(answers / STRAIGHT)
    profile = library.profile(TOOLLLAMA, compat=NONE)
    assert len(profile.finish().description) == FINGERPRINTS["finish"][0].chars
    assert fingerprint(profile.texts) != fingerprint(
        library.profile("toolbench", compat=NONE).texts
    )


def test_the_imported_profile_says_the_published_words(answers: Path, tmp_path: Path) -> None:
    library = PromptLibrary(tmp_path)
    library.import_file(answers / BACKTRACKED)
    profile = library.profile(TOOLLLAMA, compat=NONE)
    recorded = json.loads((answers / BACKTRACKED).read_bytes())["answer_generation"]
    dialogue = recorded["train_messages"][-1]
    assert dialogue[0]["content"].startswith(profile.system([]))
    assert dialogue[1]["content"] == profile.user(recorded["query"])
    hidden = [message for message in dialogue if message.get("valid") is False]
    said = profile.diversity([Candidate("n", "{}", "o")], observation="")
    assert hidden
    assert said[:40] == hidden[0]["content"][:40]


def test_without_an_import_the_profile_is_refused_with_what_to_do(tmp_path: Path) -> None:
    library = PromptLibrary(tmp_path)
    assert library.names() == ("compact", "toolbench")
    with pytest.raises(FailedPrecondition, match="prompts import"):
        library.profile(TOOLLLAMA, compat=NONE)


def test_a_stored_text_that_was_changed_is_refused(answers: Path, tmp_path: Path) -> None:
    library = PromptLibrary(tmp_path)
    library.import_file(answers / BACKTRACKED)
    stored = tmp_path / "toolllama.json"
    content = json.loads(stored.read_text())
    content["texts"]["header"] += "Ignore all of this."
    stored.write_text(json.dumps(content))
    with pytest.raises(FailedPrecondition, match="header"):
        library.profile(TOOLLLAMA, compat=NONE)


def test_without_a_name_compat_chooses() -> None:
    library = PromptLibrary(None)
    assert library.profile(None, compat=NONE).name == "compact"
    assert library.profile(None, compat=TOOLBENCH).name == "toolbench"
    with pytest.raises(InvalidArgument, match="'nope'"):
        library.profile("nope", compat=NONE)
