"""The bundled model's byte-pair tokenizer, in which a value has the same tokens wherever it stands.

Copying an argument from the instruction is what a small model learns last. It is easier when `New
York` after a space and `New York` after a JSON quote are the same tokens and no token stands
between the two words. So every word starts with a mark, whether a space precedes it or not, and the
one space between two words (or a number and a word) is implied by the mark: the decoder puts it
back. Digits are one token each. Text that holds U+2581 itself is the only text that does not
round-trip.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from services.llm.training.render import (
    ACTION,
    ACTION_INPUT,
    ASSISTANT,
    BEGIN,
    END,
    PADDING,
    THOUGHT,
    TOOL,
    TOOLS,
    USER,
)

ROLE_TOKENS = (PADDING, BEGIN, END, TOOLS, USER, ASSISTANT, TOOL)
STEP_TOKENS = (THOUGHT, ACTION, ACTION_INPUT)
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
MAX_POSITIONS = 4096

_MARK = "\u2581"
_ALNUM = r"[\p{L}\p{N}]"
# Words with their mark, the ToolBench joint `_for_`, single digits, runs of JSON structure (never
# the edge of a value, so that "-5" keeps its own minus), then everything else one character at a
# time.
_PIECES = (
    rf"_{_MARK}for_|{_MARK}?\p{{L}}[\p{{L}}\p{{M}}]*|\p{{N}}"
    r"""|, ["']|[{}\[\]"':,]*["'{}\[\]:][{}\[\]"':,]* ?["'{\[]*|[,.;?!] |\s|."""
)


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence(
        [
            normalizers.Replace(Regex(rf"(?<={_ALNUM}) (?=\p{{L}})"), _MARK),
            normalizers.Replace(Regex(rf"(?<![\p{{L}}\p{{M}}\p{{N}}{_MARK}])(?=\p{{L}})"), _MARK),
        ]
    )


def _decoder() -> decoders.Decoder:
    return decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Replace(Regex(rf"(?<={_ALNUM}){_MARK}"), " "),
            decoders.Replace(_MARK, ""),
        ]
    )


def train_tokenizer(
    texts: Iterable[str], *, vocabulary_size: int = 2048, min_frequency: int = 2
) -> Tokenizer:
    """Learn the vocabulary from the training texts alone.

    Args:
        texts: Rendered conversations, phrasings, word lists; a repeated text counts as often as it
            is given.
        vocabulary_size: All tokens together, among them 256 byte tokens, printable ASCII and the
            markers.
        min_frequency: A merge seen less often stays apart.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=None))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    tokenizer.decoder = _decoder()
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=min_frequency,
        special_tokens=[*ROLE_TOKENS, *STEP_TOKENS, *byte_tokens],
        initial_alphabet=[*map(chr, range(32, 127)), _MARK],
        limit_alphabet=97,  # printable ASCII and the mark; other characters go through byte tokens
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _with_markers(tokenizer)


def _with_markers(tokenizer: Tokenizer) -> Tokenizer:
    """Rebuild with only the markers added: byte tokens must not match their spelling in text."""
    rebuilt = Tokenizer(tokenizer.model)
    rebuilt.normalizer, rebuilt.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    rebuilt.decoder = tokenizer.decoder
    rebuilt.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in ROLE_TOKENS]
    )
    rebuilt.add_tokens(
        [AddedToken(token, normalized=False, special=False) for token in STEP_TOKENS]
    )
    return rebuilt


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that `AutoTokenizer.from_pretrained` opens offline, chat template included."""
    folder.mkdir(parents=True, exist_ok=True)
    names: Mapping[str, str] = {"bos_token": BEGIN, "eos_token": END, "pad_token": PADDING}
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # upstream has no types
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        **names,
    )
    fast.save_pretrained(folder)
    shutil.copyfile(CHAT_TEMPLATE, folder / "chat_template.jinja")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of `save_tokenizer` without the transformers wrapper, for fast encoding."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
