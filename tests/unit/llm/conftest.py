"""A tiny model with random weights in the bundled model's format."""

import json
from pathlib import Path

import pytest

from services.contracts.llm import ChatRequest, FunctionSchema, Message


def convert_tool(name: str = "convert_length_for_unit_converter") -> FunctionSchema:
    properties = {
        "value": {"type": "integer", "description": "Amount"},
        "from_unit": {"type": "string", "description": "Unit"},
        "to_unit": {"type": "string", "description": "Unit"},
        "precise": {"type": "boolean", "description": "More digits"},
    }
    return FunctionSchema(
        name=name,
        description="Convert a length between units.",
        parameters={
            "type": "object",
            "properties": properties,
            "required": ["value", "from_unit", "to_unit"],
            "optional": ["precise"],
        },
    )


FINISH = FunctionSchema(
    name="Finish", description="Ends.", parameters={"type": "object", "properties": {}}
)
INSTRUCTION = 'How many kilometres are 12.5 miles? Say it in "plain" words, for São Paulo.'
CONVERT_ARGUMENTS = json.dumps({"value": 12.5, "from_unit": "miles", "to_unit": "kilometres"})


def convert_request(**changes: object) -> ChatRequest:
    return ChatRequest(
        messages=(Message(role="user", content=INSTRUCTION),),
        tools=(convert_tool(), convert_tool("convert_length_for_old_converter"), FINISH),
    ).model_copy(update=changes)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaMA of 2 layers, width 32, with a tokenizer trained on a few turns."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from services.llm.training.render import render_conversation
    from services.llm.training.tokenizer import save_tokenizer, train_tokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny"
    call = {"name": "convert_length_for_unit_converter", "arguments": CONVERT_ARGUMENTS}
    turn = render_conversation(
        [
            {"role": "user", "content": INSTRUCTION},
            {"role": "assistant", "content": "Convert.", "tool_calls": [{"function": call}]},
        ],
        [{"type": "function", "function": convert_tool().model_dump()}],
    )
    finish = '{"return_type": "give_answer", "final_answer": "12.5 miles are 20.1 kilometres."}'
    tokenizer = train_tokenizer([turn, finish] * 20, vocabulary_size=600)
    save_tokenizer(tokenizer, folder)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<s>"),
        eos_token_id=tokenizer.token_to_id("</s>"),
        pad_token_id=tokenizer.token_to_id("<pad>"),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
