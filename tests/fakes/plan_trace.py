"""Writes the events of a run the way a planner emits them, without a search behind it."""

import json
from collections.abc import Mapping

from pydantic import JsonValue

from services.contracts.apis import ApiRef, SideEffect
from services.contracts.ids import RunId
from services.contracts.llm import FunctionSchema, Message, MessageToolCall, Usage
from services.contracts.planner import (
    ApprovalAsked,
    Deliberated,
    ExpansionFinished,
    ExpansionStarted,
    HistoryMessage,
    ModelDelta,
    ModelReplied,
    PlanEvent,
    Queued,
    Retrieved,
    RunEnded,
    ToolFinished,
    ToolStarted,
)
from services.contracts.retriever import RetrievedApi
from services.contracts.toolbench.codes import code_of
from services.contracts.toolenv import CallStatus, ObservationSource

_EDGES_PER_STEP = 3
_LATENCY_S = {"custom": 0.0042, "simulated": 1.3, "live": 0.31, "error": 0.0021}


def schema(name: str, description: str = "") -> FunctionSchema:
    empty: dict[str, JsonValue] = {"type": "object", "properties": {}, "required": []}
    return FunctionSchema(name=name, description=description, parameters=empty)


def user(text: str, *, hidden: bool = False) -> HistoryMessage:
    return HistoryMessage(message=Message(role="user", content=text), hidden=hidden)


class Trace:
    """A run being written down; `events` is what a planner would have yielded so far."""

    def __init__(self, instruction: str) -> None:
        self.events: list[PlanEvent] = []
        self._instruction = instruction
        self._last_messages: dict[int, tuple[HistoryMessage, ...]] = {}
        self._announced: set[int] = set()
        self._at: dict[str, int] = {}
        self._expansions = self._calls = self._nodes = self._tool_calls = 0
        self._depths = {0: 0}
        self._parents: dict[int, int] = {}
        self._call_of: dict[int, int] = {}
        self._functions: dict[str, ApiRef] = {}

    def retrieve(self, hits: Mapping[str, float], *, descriptions: str = "") -> None:
        """`hits`: API addresses `category/tool/api` with their scores, best first."""
        refs = [ApiRef.parse(address) for address in hits]
        self._functions = {f"{ref.api}_for_{ref.tool}": ref for ref in refs}
        functions = [schema(name, descriptions) for name in self._functions]
        self._add(
            Retrieved(
                functions=(*functions, schema("Finish")),
                function_apis=self._functions,
                retrieved=tuple(
                    RetrievedApi(
                        api=ref,
                        rank=rank,
                        score=score,
                        score_parts={"dense": score * 0.9, "sparse": score * 11},
                    )
                    for rank, (ref, score) in enumerate(
                        zip(refs, hits.values(), strict=True), start=1
                    )
                ),
                latency_s=0.021,
            )
        )

    def wait(self, position: int) -> None:
        """The run waits for its turn."""
        self._add(Queued(run_id=RunId("written-run"), position=position))

    def deliberate(self, purpose: str, text: str, *, is_readable: bool = True) -> None:
        """The model is asked about the search itself, at the node that was expanded last."""
        usage = Usage(prompt_tokens=640, completion_tokens=17)
        told = {"purpose": purpose, "text": text, "usage": usage, "latency_s": 0.3}
        self._add(Deliberated(node_id=self._at["node_id"], is_readable=is_readable, **told))

    def expand(self, node: int, *, diversity: str | None = None) -> int:
        """Announce the model call below a node; returns the expansion's number."""
        self._expansions += 1
        base: int | None = node
        if node not in self._announced:
            base = self._parents.get(node)
        messages = self._last_messages.pop(node, ())
        if not self._announced:
            system = HistoryMessage(message=Message(role="system", content="Use the functions."))
            messages = (system, user(self._instruction))
        if diversity is not None:
            messages = (*messages, user(diversity, hidden=True))
        self._announced.add(node)
        self._at = {
            "node_id": node,
            "expansion": self._expansions,
            "depth": self._depths[node],
        }
        self._add(ExpansionStarted(**self._at, base_node_id=base, messages=messages))
        return self._expansions

    def write(self, *pieces: str) -> None:
        for piece in pieces:
            self._add(ModelDelta(**self._at, text=piece))

    def call(
        self,
        thought: str,
        function: str,
        arguments: Mapping[str, object] | str,
        observation: str,
        *,
        status: CallStatus = CallStatus.OK,
        source: ObservationSource | None = "custom",
        age_s: float | None = None,
        reused: bool = False,
        asks: SideEffect | None = None,
    ) -> int:
        """The reply and its one call, which may need approval; returns the new node."""
        text = arguments if isinstance(arguments, str) else json.dumps(dict(arguments))
        self._calls += 1
        self._tool_calls += function in self._functions
        call = MessageToolCall(id=f"c{self._calls}", name=function, arguments=text)
        reply = Message(role="assistant", content=thought, tool_calls=(call,))
        self._reply(reply)
        self._call_of[self._at["expansion"]] = self._calls
        self._add(
            ToolStarted(
                **self._at,
                call_id=self._calls,
                function=function,
                arguments=text,
                api=self._functions.get(function),
            )
        )
        if asks is not None:
            self._add(
                ApprovalAsked(
                    call_id=self._calls,
                    api=self._functions[function],
                    effect=asks,
                    arguments=text,
                    expires_in_s=300,
                )
            )
        self._add(
            ToolFinished(
                **self._at,
                call_id=self._calls,
                observation=observation,
                status=status,
                code=code_of(status),
                source=source,
                latency_s=_LATENCY_S.get(source or "", 0.0),
                age_s=age_s,
                reused=reused,
            )
        )
        answer = Message(role="tool", name=function, content=observation, tool_call_id=call.id)
        return self._grow(reply, answer)

    def answer(self, text: str, *, thought: str = "Now the answer is known.") -> int:
        return self.call(
            thought,
            "Finish",
            {"return_type": "give_answer", "final_answer": text},
            '{"response":"successfully giving the final answer."}',
            status=CallStatus.FINISHED,
            source=None,
        )

    def give_up(self, thought: str) -> int:
        return self.call(
            thought,
            "Finish",
            {"return_type": "give_up_and_restart"},
            '{"response":"chose to give up and restart"}',
            status=CallStatus.GAVE_UP,
            source=None,
        )

    def close(self, expansion: int, *, node: int, depth: int) -> None:
        """The expansion's subtree was searched."""
        at = {"node_id": node, "expansion": expansion, "depth": depth}
        self._add(ExpansionFinished(**at, call_id=self._call_of.get(expansion)))

    def end(self, kind: str = "answered", **fields: object) -> list[PlanEvent]:
        self._add(
            RunEnded(
                kind=kind,
                llm_calls=self._expansions,
                tool_calls=self._tool_calls,
                usage=Usage(prompt_tokens=640 * self._expansions, completion_tokens=17),
                seconds=2.35,
                **fields,
            )
        )
        return self.events

    def _reply(self, reply: Message) -> None:
        usage = Usage(prompt_tokens=640, completion_tokens=17)
        self._add(ModelReplied(**self._at, message=reply, usage=usage, latency_s=0.42))

    def _grow(self, *messages: Message) -> int:
        parent = self._at["node_id"]
        self._nodes += _EDGES_PER_STEP
        self._depths[self._nodes] = self._at["depth"] + _EDGES_PER_STEP
        self._parents[self._nodes] = parent
        self._last_messages[self._nodes] = tuple(HistoryMessage(message=m) for m in messages)
        return self._nodes

    def _add(self, event: PlanEvent) -> None:
        self.events.append(event.model_copy(update={"sequence": len(self.events)}))
