import gzip
import json

import pytest

from services.llm.training.config import TrainingError
from services.llm.training.corpus import ConversationStore, Encoder, Part, files_sha256
from tests.unit.llm.training_conversations import record, small_tokenizer, write_file


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_plain_and_gzipped_files_read_alike(tmp_path):
    plain = write_file(tmp_path / "a.jsonl", 3)
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert ConversationStore([plain])[:] == ConversationStore([packed])[:]
    assert len(ConversationStore([plain, packed])) == 6


@pytest.mark.parametrize("line", ["{", "[]", '{"id": 1}', '{"messages": [{"content": "x"}]}'])
def test_a_bad_line_is_refused_with_its_place(tmp_path, line):
    path = write_file(tmp_path / "a.jsonl", 1)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(TrainingError, match=r"a\.jsonl:2"):
        ConversationStore([path])


def test_a_truncated_archive_is_refused(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(record(1)).encode())[:-20])
    with pytest.raises(TrainingError, match="cannot read"):
        ConversationStore([path])


def test_only_assistant_tokens_are_trained(tmp_path, tokenizer):
    conversation = ConversationStore([write_file(tmp_path / "a.jsonl", 1)])[0]
    encoded = Encoder(tokenizer).encode([conversation])[0]
    trained = tokenizer.decode(encoded.ids[encoded.parts > 0].tolist(), skip_special_tokens=False)
    first, second = (conversation.messages[index]["tool_calls"][0]["function"] for index in (2, 4))
    assert trained == (
        f"Thought: Convert the length.\nAction: {first['name']}"
        f"\nAction Input: {first['arguments']}</s>"
        f"Thought: Give the answer.\nAction: Finish\nAction Input: {second['arguments']}</s>"
    )


def test_the_train_list_chooses_messages(tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**record(1), "train": [4]}))
    encoded = Encoder(tokenizer).encode(ConversationStore([path])[:])[0]
    trained = tokenizer.decode(encoded.ids[encoded.parts > 0].tolist())
    assert trained.startswith("Thought: Give the answer.")


def test_the_api_part_is_the_marker_and_the_name(tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**record(1), "train": [2]}))
    encoded = Encoder(tokenizer).encode(ConversationStore([path])[:])[0]
    name = tokenizer.decode(encoded.ids[encoded.parts == Part.API].tolist())
    assert name == "\nAction: convert_length_for_unit_converter"


def test_the_hash_depends_on_content_and_order(tmp_path):
    first, second = (write_file(tmp_path / f"{n}.jsonl", 1, first=n) for n in (1, 2))
    assert files_sha256([first, second]) != files_sha256([second, first])
