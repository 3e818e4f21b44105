"""The oracle reads everything but the plan from the conversation."""

import json

import pytest

from services.contracts.errors import InvalidArgument
from services.contracts.llm import ChatRequest, FunctionSchema, Message
from services.dataset.instructions import Instruction
from services.dataset.intents import Intent
from services.dataset.oracle import OracleModel

INTENT = Intent.model_validate(
    {
        "intent_id": "atlas.capital_population",
        "group": "G1",
        "slots": {"country": {"kind": "choice", "values": ["France"]}},
        "plan": [
            {
                "thought": "Find the capital.",
                "calls": [
                    {
                        "api": "Geo/atlas/capital",
                        "arguments": {"country": "{country}"},
                        "bind": {"capital": "capital"},
                    },
                    {
                        "api": "Geo/other/find_capital",
                        "arguments": {"name": "{country}"},
                        "bind": {"capital": "city"},
                    },
                ],
            },
            {
                "thought": "Look up the population.",
                "calls": [
                    {
                        "api": "Geo/atlas/population",
                        "arguments": {"city": "{capital}"},
                        "bind": {"people": "population"},
                    }
                ],
            },
        ],
        "answer": {"text": "{capital} has {people} people.", "numbers": ["people"]},
        "phrasings": {"train": ["How many people live in the capital of {country}?"]},
    }
)
INSTRUCTION = Instruction(
    intent=INTENT,
    template_id="t",
    split="train",
    text="How many people live in the capital of France?",
    values={"country": "France"},
)


def schema(name: str, *parameters: str) -> FunctionSchema:
    properties = {parameter: {"type": "string"} for parameter in parameters}
    return FunctionSchema(
        name=name, description="", parameters={"type": "object", "properties": properties}
    )


TOOLS = (
    schema("capital_for_atlas", "country"),
    schema("find_capital_for_other", "name"),
    schema("population_for_atlas", "city"),
    schema("Finish", "return_type", "final_answer"),
)


@pytest.fixture
def oracle() -> OracleModel:
    model = OracleModel(seed=3, mistake_rate=0)
    model.register(INSTRUCTION)
    return model


def user(text: str = INSTRUCTION.text) -> Message:
    return Message(role="user", content=text)


async def ask(oracle: OracleModel, *messages: Message) -> Message:
    request = ChatRequest(messages=messages, tools=TOOLS)
    return (await oracle.complete(request)).message


def answered(reply: Message, response: object, error: str = "") -> Message:
    content = json.dumps({"error": error, "response": response})
    call = reply.tool_calls[0]
    return Message(role="tool", name=call.name, content=content, tool_call_id=call.id)


@pytest.mark.anyio
async def test_later_arguments_and_the_answer_come_from_earlier_observations(
    oracle: OracleModel,
) -> None:
    first = await ask(oracle, user())
    field = {"capital_for_atlas": "capital", "find_capital_for_other": "city"}
    found = answered(first, {field[first.tool_calls[0].name]: "Paris"})
    second = await ask(oracle, user(), first, found)
    assert second.tool_calls[0].arguments == '{"city": "Paris"}'
    third = await ask(
        oracle, user(), first, found, second, answered(second, {"population": 2100000})
    )
    assert json.loads(third.tool_calls[0].arguments) == {
        "return_type": "give_answer",
        "final_answer": "Paris has 2100000 people.",
    }


@pytest.mark.anyio
async def test_after_a_failure_it_tries_the_overlapping_api_or_gives_up(
    oracle: OracleModel,
) -> None:
    first = await ask(oracle, user())
    second = await ask(oracle, user(), first, answered(first, "", error="service closed"))
    other = {"capital_for_atlas", "find_capital_for_other"} - {first.tool_calls[0].name}
    assert second.tool_calls[0].name in other | {"Finish"}


@pytest.mark.anyio
async def test_a_reexpansion_chooses_what_was_not_tried(oracle: OracleModel) -> None:
    tried = json.dumps([{"name": "capital_for_atlas", "arguments": "{}", "function_output": ""}])
    reply = await ask(oracle, user(), user(f"These actions were tried here: {tried}"))
    assert reply.tool_calls[0].name == "find_capital_for_other"


@pytest.mark.anyio
async def test_when_everything_failed_it_gives_up(oracle: OracleModel) -> None:
    tried = json.dumps([{"name": "capital_for_atlas"}, {"name": "find_capital_for_other"}])
    reply = await ask(oracle, user(), user(f"These actions were tried here: {tried}"))
    assert json.loads(reply.tool_calls[0].arguments) == {"return_type": "give_up_and_restart"}


@pytest.mark.anyio
async def test_an_unregistered_instruction_is_refused(oracle: OracleModel) -> None:
    with pytest.raises(InvalidArgument, match="does not know"):
        await ask(oracle, user("What is this?"))


@pytest.mark.anyio
async def test_the_same_conversation_gives_the_same_reply(oracle: OracleModel) -> None:
    assert await ask(oracle, user()) == await ask(oracle, user())
