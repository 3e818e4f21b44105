import torch

from services.llm.training.config import ModelShape
from services.llm.training.corpus import ConversationStore, Encoder
from services.llm.training.evaluate import score_turns
from services.llm.training.network import Network
from tests.unit.llm.training_conversations import small_tokenizer, write_file

SHAPE = ModelShape(vocabulary_size=512, n_layers=3, width=64, n_heads=4, hidden=96)


class _Oracle(Network):
    """Knows the reference and errs on chosen tokens."""

    def __init__(self, wrong_ids: set[int]) -> None:
        super().__init__(SHAPE, seed=0)
        self._wrong_ids = wrong_ids

    def logits(self, ids, positions):
        right = ids.reshape(-1)[positions + 1].clone()
        for index, token in enumerate(right.tolist()):
            right[index] = 0 if token in self._wrong_ids else token
        return torch.nn.functional.one_hot(right, SHAPE.vocabulary_size).float()


def scored(folder, wrong: set[str]):
    tokenizer = small_tokenizer(folder)
    items = ConversationStore([write_file(folder / "dev.jsonl", 10)])[:]
    wrong_ids = {tokenizer.token_to_id(token) for token in wrong}
    return score_turns(_Oracle(wrong_ids), Encoder(tokenizer), items)


def test_a_model_that_is_always_right_scores_one(tmp_path):
    scores = scored(tmp_path, set())
    assert (scores.n_turns, scores.exact, scores.api_exact, scores.arguments_exact) == (20, 1, 1, 1)


def test_a_wrong_argument_does_not_count_against_the_api(tmp_path):
    scores = scored(tmp_path, {'"}'})
    assert scores.api_exact == 1.0
    assert scores.arguments_exact == 0.0
    assert scores.call_exact == 0.0


def test_a_wrong_thought_does_not_count_against_the_call(tmp_path):
    scores = scored(tmp_path, {"Thought: "})
    assert (scores.exact, scores.call_exact) == (0.0, 1.0)
