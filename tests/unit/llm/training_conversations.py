"""Small made-up conversations in the training format, and a tokenizer learned from them."""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer

from services.llm.training.corpus import Conversation, ConversationStore
from services.llm.training.render import JsonObject
from services.llm.training.tokenizer import train_tokenizer
from services.llm.training.vocabulary import tokenizer_texts

UNITS = ("miles", "yards", "feet", "inches")
CITIES = ("New York", "Cape Town", "Quito", "Lima", "Porto Alegre", "Ulaanbaatar")
CONVERT = "convert_length_for_unit_converter"
CLIMATE = "climate_of_for_city_atlas"


def tool(name: str, description: str, required: list[str], optional: list[str]) -> JsonObject:
    lead = 'This is a function. The description of this function is: "'
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": f'{lead}{description}"',
            "parameters": {
                "type": "object",
                "properties": {key: {"type": "string"} for key in (*required, *optional)},
                "required": required,
            },
        },
    }


TOOLS = (
    tool(CONVERT, "Convert a length between units.", ["value", "from_unit", "to_unit"], ["digits"]),
    tool(CLIMATE, "Describe the climate of a city.", ["city"], []),
    tool("Finish", "End.", ["return_type"], ["final_answer"]),
)


def call(thought: str, name: str, arguments: JsonObject) -> JsonObject:
    function = {"name": name, "arguments": json.dumps(arguments)}
    made = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": thought, "tool_calls": [made]}


def record(number: int) -> dict[str, object]:
    """One line of a training file."""
    rng = random.Random(number)
    source, target = rng.sample(UNITS, 2)
    value = rng.randint(10, 999)
    return {
        "id": f"convert#train0/{number}",
        "tools": list(TOOLS),
        "messages": [
            {"role": "system", "content": "Call functions."},
            {"role": "user", "content": f"\nHow many {target} are {value} {source}?\nBegin!\n"},
            call(
                "Convert the length.",
                CONVERT,
                {"value": value, "from_unit": source, "to_unit": target},
            ),
            {"role": "tool", "content": '{"error": "", "response": {"result": 4.5}}'},
            call(
                "Give the answer.",
                "Finish",
                {
                    "return_type": "give_answer",
                    "final_answer": f"{value} {source} is 4.5 {target}.",
                },
            ),
        ],
    }


def city_record(number: int) -> dict[str, object]:
    """One line whose argument is an open value of one or two words."""
    city = CITIES[number % len(CITIES)]
    question = {"role": "user", "content": f"What is the climate of {city}?"}
    return {
        "id": f"climate#train0/{number}",
        "tools": list(TOOLS),
        "messages": [question, call("Look up the climate.", CLIMATE, {"city": city})],
    }


def write_file(path: Path, n_conversations: int, *, first: int = 0) -> Path:
    numbers = range(first, first + n_conversations)
    path.write_text(
        "".join(json.dumps(record(number)) + "\n" for number in numbers), encoding="utf-8"
    )
    return path


def conversations(folder: Path, n_conversations: int = 40) -> list[Conversation]:
    path = folder / "conversations.jsonl"
    records = [make(number) for number in range(n_conversations) for make in (record, city_record)]
    path.write_text("".join(json.dumps(item) + "\n" for item in records), encoding="utf-8")
    return ConversationStore([path])[:]


def small_tokenizer(folder: Path) -> Tokenizer:
    return train_tokenizer(tokenizer_texts(conversations(folder)), vocabulary_size=512)
