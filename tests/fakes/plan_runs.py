"""Runs written down once, for tests of the gateway and its page."""

import json

from services.contracts.apis import SideEffect
from services.contracts.errors import Unavailable
from services.contracts.ids import RunId
from services.contracts.planner import PlanEvent
from services.contracts.toolenv import CallStatus, ObservationSource
from tests.fakes.plan_trace import Trace

HOSTILE = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>'


def wrapped(response: object, error: str = "") -> str:
    return json.dumps({"error": error, "response": response})


def toolbench_example() -> list[PlanEvent]:
    """The tree of interop section 5.6: a give-up, then an invented function, then the answer."""
    trace = Trace("say hello")
    trace.retrieve({"Customized/hello_world/get_hello_world": 0.9})
    trace.expand(0)
    first = trace.call("call it", "get_hello_world_for_hello_world", "{}", wrapped("hello world"))
    trace.expand(first)
    trace.give_up("give up here")
    trace.close(2, node=first, depth=3)
    trace.close(1, node=0, depth=0)
    trace.expand(0, diversity="try another way")
    second = trace.call(
        "other way",
        "say_hi_for_hello_world",
        "{}",
        wrapped("", "No such function name: say_hi_for_hello_world"),
        status=CallStatus.UNKNOWN_FUNCTION,
        source=None,
    )
    trace.expand(second)
    trace.answer("hello world", thought="answer now")
    trace.close(4, node=second, depth=3)
    trace.close(3, node=0, depth=0)
    return trace.end(answer="hello world", final_arguments="raw\ntext that is not strict JSON")


def dallas_to_toronto() -> list[PlanEvent]:
    """A city is missing in the first table, the search goes back, a second one has it."""
    trace = Trace("In nautical miles, what is the distance between Dallas and Toronto?")
    trace.retrieve(
        {
            "Geography/geo_lookup/find_distance": 0.842,
            "Geography/city_atlas/distance_between_cities": 0.811,
            "Measurement/unit_converter/convert_length": 0.634,
            "Geography/city_atlas/city_coordinates": 0.402,
            "Measurement/metric_express/convert_weight": 0.187,
        }
    )
    trace.expand(0)
    trace.write("The lookup service ", "knows distances ", "between cities.")
    first = trace.call(
        "The lookup service knows distances between cities.",
        "find_distance_for_geo_lookup",
        {"city_a": "Paris", "city_b": "Tokyo"},
        wrapped("", "city 'Tokyo' is not in the table"),
        status=CallStatus.TOOL_ERROR,
    )
    trace.expand(first)
    trace.give_up("Without Tokyo this path leads nowhere.")
    trace.close(2, node=first, depth=3)
    trace.close(1, node=0, depth=0)
    trace.expand(0, diversity="find_distance was tried already")
    second = trace.call(
        "The atlas may have both cities.",
        "distance_between_cities_for_city_atlas",
        {"origin": "Paris", "destination": "Tokyo"},
        wrapped({"distance_km": 9713, "method": "great circle"}),
    )
    trace.expand(second)
    third = trace.call(
        "Kilometres are not miles, so convert them.",
        "convert_length_for_unit_converter",
        {"value": 9713, "from_unit": "km", "to_unit": "mi"},
        wrapped({"value": 6035.38, "unit": "mi"}),
    )
    trace.expand(third)
    trace.answer("Dallas and Toronto are 1045.9 nautical miles apart.")
    return trace.end(answer="Dallas and Toronto are 1045.9 nautical miles apart.")


def hostile() -> list[PlanEvent]:
    """Markup in every place where a model or a tool may write."""
    trace = Trace("attack")
    trace.retrieve({"Evil<b>/tool<i>/api<u>": 0.5}, descriptions=HOSTILE)
    trace.expand(0)
    trace.write(HOSTILE)
    node = trace.call(
        HOSTILE, "api<u>_for_tool<i>", {HOSTILE: HOSTILE}, wrapped(HOSTILE), source="simulated"
    )
    trace.expand(node)
    trace.answer(HOSTILE, thought=HOSTILE)
    return trace.end(answer=HOSTILE)


def every_source() -> list[PlanEvent]:
    """One call answered by each source, and one that nobody answered."""
    trace = Trace("sources")
    trace.retrieve({"Sea/tides/tide_at": 0.9})
    node, function = 0, "tide_at_for_tides"
    answer = wrapped({"harbour": "Brest", "metres": 3.5})
    sources: tuple[tuple[ObservationSource, float | None], ...] = (
        ("live", None),
        ("custom", None),
        ("replay", 3.2 * 86_400),
        ("remote", None),
        ("simulated", None),
    )
    for source, age_s in sources:
        trace.expand(node)
        thought = f"Ask for an answer of source {source}."
        where = {"harbour": "Brest"}
        node = trace.call(thought, function, where, answer, source=source, age_s=age_s)
    trace.expand(node)
    node = trace.call(
        "Ask once more.",
        function,
        {"harbour": "Cork"},
        wrapped("", "API not working: replay: no recording; live: 503"),
        status=CallStatus.API_NOT_WORKING,
        source="error",
    )
    trace.expand(node)
    trace.answer("3.5 m")
    return trace.end(answer="3.5 m")


def short(word: str) -> list[PlanEvent]:
    """One call, and an answer that repeats the word."""
    trace = Trace(word)
    trace.retrieve({"Text/echo/echo": 0.7})
    trace.expand(0)
    node = trace.call("Echo it.", "echo_for_echo", {"word": word}, wrapped(word))
    trace.expand(node)
    trace.answer(word)
    return trace.end(answer=word)


def broken() -> list[PlanEvent]:
    """The model fails after the first step."""
    trace = Trace("break")
    trace.retrieve({"Text/echo/echo": 0.7})
    trace.expand(0)
    node = trace.call("Echo it.", "echo_for_echo", {"word": "x"}, wrapped("x"))
    trace.expand(node)
    problem = Unavailable("the model server at 127.0.0.1:8001 refuses connections").to_problem()
    return trace.end("failed", problem=problem, reason=problem.detail)


def fruitless() -> list[PlanEvent]:
    """The model gives up."""
    trace = Trace("nothing")
    trace.retrieve({"Text/echo/echo": 0.7})
    trace.expand(0)
    trace.give_up("No function fits.")
    return trace.end("gave_up", reason="the model gave up on every path")


def order_placed() -> list[PlanEvent]:
    """A call that changes something and needs approval first."""
    trace = Trace("order")
    trace.retrieve({"Shop/orders/place_order": 0.9})
    trace.expand(0)
    node = trace.call(
        "Order the book.",
        "place_order_for_orders",
        {"book": HOSTILE},
        wrapped({"order": 17}),
        asks=SideEffect.WRITE,
    )
    trace.expand(node)
    trace.answer("Order 17 was placed.")
    return trace.end(answer="Order 17 was placed.", run_id=RunId("written-run"), is_kept=True)


def best_effort() -> list[PlanEvent]:
    """A run that waits, weighs its branches in words, and is ended by a budget."""
    trace = Trace("effort")
    trace.wait(3)
    trace.wait(1)
    trace.retrieve({"Sea/tides/tide_at": 0.9})
    trace.expand(0)
    function, where = "tide_at_for_tides", {"harbour": "Brest"}
    node = trace.call("Ask for Brest.", function, where, wrapped({"metres": 3.5}))
    trace.deliberate("value", f"{HOSTILE} is worth\na 7. " + "Because of the tide. " * 20)
    trace.deliberate("rank", "I cannot say.", is_readable=False)
    trace.expand(node)
    trace.call("Ask again.", function, where, wrapped({"metres": 3.5}), reused=True)
    return trace.end(
        "exhausted",
        limit="max_llm_calls",
        reason="max_llm_calls=4 was reached",
        answer=f"About 3.5 m {HOSTILE}",
        is_best_effort=True,
    )
