"""Kept runs: replayed, resumed and forked from their journals."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import fields, replace
from functools import partial
from math import inf
from typing import Final, Literal, Protocol, TypeVar

import structlog
from pydantic import JsonValue

from services.contracts.context import remaining_s
from services.contracts.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from services.contracts.ids import RunId
from services.contracts.planner import (
    ForkRequest,
    PlanEvent,
    Planner,
    RunEnded,
    RunKeeper,
    RunSummary,
    SolveRequest,
)
from services.planner.budget import Prices
from services.planner.ending import cancelled
from services.planner.journal.entries import has_ended_by_itself
from services.planner.journal.ports import (
    RecordedApprovals,
    RecordedModel,
    RecordedRetriever,
    RecordedToolEnv,
)
from services.planner.journal.shelf import Origin, Shelf
from services.planner.journal.tape import Tape
from services.planner.prompts.base import fingerprint
from services.planner.run import Ports, Run, RunOptions
from services.planner.search.base import Emit
from services.planner.telling import Tell, told
from services.planner.tree import Node
from services.planner.trunk import Trunk, trunk_of

Options = TypeVar("Options", bound=RunOptions)
log = structlog.get_logger()
_UNBOUNDED: Final = 1_000_000
"""A replay waits for nobody: what its reader leaves unread must not change its order."""


class Making(Protocol):
    """Makes runs; the planner does."""

    def __call__(self, request: SolveRequest, run_id: RunId, tape: Tape | None = None) -> Run:
        """The run, whose clock starts now; with a tape, over that tape."""
        ...


Guard = Callable[[Run, Emit], Awaitable[None]]
"""Lets a run go to its end, whatever fails."""


def taped(run: Run, tape: Tape) -> Run:
    """The run as its record has it: where its trees start, and what was decided about its calls."""
    trunk = tape.header.trunk
    return replace(
        run,
        approvals=RecordedApprovals(run.approvals, tape),
        trunk=Trunk(trunk) if trunk is not None else None,
    )


def taped_ports(ports: Ports, tape: Tape) -> Ports:
    """The ports behind a tape, but for the tools; one that records nothing asks none of them."""
    if not tape.is_recording:
        return replace(
            ports,
            model=RecordedModel(None, tape),
            retriever=RecordedRetriever(None, tape),
        )
    has_retriever = ports.retriever is not None
    return replace(
        ports,
        model=RecordedModel(ports.model, tape),
        retriever=RecordedRetriever(ports.retriever, tape) if has_retriever else None,
    )


def taped_tools(ports: Ports, tape: Tape) -> Ports:
    """The ports with the tools behind the tape, which are not asked when it records nothing."""
    toolenv = RecordedToolEnv(ports.toolenv if tape.is_recording else None, tape)
    return replace(ports, toolenv=toolenv)


def recorded_options(options: RunOptions) -> dict[str, JsonValue]:
    """The operator's decisions that can be written down, by name."""
    found = {each.name: getattr(options, each.name) for each in fields(options)}
    plain = {name: value for name, value in found.items() if isinstance(value, int | float | str)}
    return {**plain, "prices": list(options.prices) if options.prices is not None else None}


def options_as_recorded(options: Options, tape: Tape) -> Options:
    """The operator's decisions as they were when the run began.

    Args:
        options: Those of today; they hold for what an older planner did not write down.
        tape: The run's.
    """
    written = tape.header.options
    values: dict[str, object] = {
        name: written[name] for name in recorded_options(options).keys() & written.keys()
    }
    prices = values.get("prices")
    if isinstance(prices, list):
        values["prices"] = Prices(*prices)
    if not tape.is_recording:
        values["approval_timeout_s"] = 0.0  # who did not decide then does not decide now
    # Holds because a value of the same name was written by the same class; a foreign one shows as
    # a request that the record does not know.
    return replace(options, **values)  # type: ignore[arg-type]


async def go(run: Run, tell: Tell, *, tape: Tape | None, guard: Guard) -> None:
    """Let a run go to its end, and its tape with it.

    It waits for its reader up to its deadline and no longer: what is told then is kept for the
    reader, and the run ends by its deadline as any other.

    A run that is left or cancelled ends as `cancelled` in its record; one that never began leaves
    none.
    """
    if tape is None:
        await guard(run, _patient(tell, run))
        return
    try:
        await guard(run, _patient(tape.telling(tell), run))
    except asyncio.CancelledError:
        run.cancelled = tape.end(run.noted(cancelled(run.budget)))
        raise
    except InvalidArgument:
        tape.discard()
        raise
    finally:
        tape.close()


def _patient(tell: Tell, run: Run) -> Emit:
    """Waits for the reader up to the deadline of a run that begins now."""
    try:
        left_s = remaining_s(at_most_s=run.budget.deadline_s)
    except DeadlineExceeded:
        left_s = 0.0
    return partial(tell, until=asyncio.get_running_loop().time() + left_s)


async def _opened(shelf: Callable[[], Tape]) -> Tape:
    """A tape off the shelf; who is cancelled meanwhile leaves none open.

    The thread that opens it cannot be interrupted, and the tape's file is locked.
    """
    opening = asyncio.create_task(asyncio.to_thread(shelf))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_put_back)
        raise


def _put_back(opening: asyncio.Task[Tape]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().discard()
        opening.result().close()


class KeptRuns:
    """See `RunKeeper`; runs that go on tell their events instead of yielding them."""

    def __init__(self, shelf: Shelf, *, make: Making, guard: Guard, options: RunOptions) -> None:
        """Use a shelf.

        Args:
            shelf: Has the journals.
            make: Makes the runs.
            guard: Ends a failing run with an event.
            options: The operator's decisions about runs that begin now.
        """
        self._shelf = shelf
        self._make = make
        self._guard = guard
        self._options = recorded_options(options)
        self._prompts = options.prompts

    async def begin(self, request: SolveRequest, run_id: RunId) -> Tape | None:
        """A tape for a new run; `None` when the disk refuses, and then the run is not kept.

        Raises:
            FailedPrecondition: A run of that id is kept.
            InvalidArgument: There is no such prompt profile.
        """
        try:
            return await self._begun(run_id, request)
        except Unavailable as exc:
            log.warning("run_not_kept", run_id=run_id, reason=exc.detail)
            return None

    async def _begun(
        self, run_id: RunId, request: SolveRequest, origin: Origin | None = None
    ) -> Tape:
        profile = self._prompts.profile(request.prompts, compat=request.compat)
        return await _opened(
            partial(
                self._shelf.begin,
                run_id,
                request,
                options=self._options,
                prompts=f"{profile.name}:{fingerprint(profile.texts)}",
                origin=origin,
            )
        )

    async def runs(self, *, limit: int = 100) -> list[RunSummary]:
        """See `RunKeeper.runs`."""
        return await asyncio.to_thread(self._shelf.summaries, limit)

    async def events(self, run_id: RunId) -> list[PlanEvent]:
        """See `RunKeeper.events`; they are those of its replay."""
        return [event async for event in self.replay(run_id)]

    async def replay(self, run_id: RunId) -> AsyncGenerator[PlanEvent, None]:
        """See `RunKeeper.replay`."""
        tape = await asyncio.to_thread(self._shelf.play, run_id)
        if not tape.has_end:
            raise FailedPrecondition(f"run {run_id!r} has not ended; resume it, or fork it")
        async with aclosing(told(partial(self._go, tape), bound=_UNBOUNDED)) as events:
            async for event in events:
                if isinstance(event, RunEnded) and tape.mismatch is not None:
                    raise tape.mismatch
                yield event

    async def resume(self, run_id: RunId, tell: Tell) -> None:
        """See `RunKeeper.resume`."""
        await self._go(await _opened(partial(self._shelf.go_on, run_id)), tell)

    async def fork(self, request: ForkRequest, tell: Tell) -> None:
        """See `RunKeeper.fork`."""
        run = await self._rebuilt(request.run_id)
        node = _node(run, request.node_id)
        assert run.search is not None, "a run with nodes has a search"
        origin = Origin(
            run_id=request.run_id,
            node_id=request.node_id,
            trunk=trunk_of(
                node, run.search.opening, action=request.action, observation=request.observation
            ),
        )
        run_id = request.new_run_id or RunId(uuid.uuid4().hex)
        await self._go(await self._begun(run_id, _forked(run, request, run_id), origin), tell)

    async def _rebuilt(self, run_id: RunId) -> Run:
        """The run as far as its record goes, with its tree."""
        tape = await asyncio.to_thread(self._shelf.play, run_id)
        run = self._made(tape)
        await go(run, _unheard, tape=tape, guard=self._guard)
        if tape.mismatch is not None:
            raise tape.mismatch
        return run

    def _made(self, tape: Tape) -> Run:
        request = tape.header.request
        if not tape.is_recording and request.mode == "speculative":
            # The trees are equal, and nothing is gained by guessing what is known.
            request = request.model_copy(update={"mode": "exact"})
        return self._make(request, tape.header.run_id, tape)

    async def _go(self, tape: Tape, tell: Tell) -> None:
        try:
            run = self._made(tape)
        except BaseException:
            tape.discard()
            tape.close()
            raise
        await go(run, tell, tape=tape, guard=self._guard)


class Continuing:
    """See `Planner`: a request under the id of a kept run goes on where that stopped.

    The kept run must be of the same request; another one's is forgotten. What has ended by itself
    is replayed, so that nothing is asked twice.
    """

    def __init__(
        self, planner: Planner, keeper: RunKeeper, shelf: Shelf, *, fresh: bool = False
    ) -> None:
        """Bind the planner.

        Args:
            planner: Runs what is new, and keeps it on the shelf.
            keeper: Of the same shelf.
            shelf: Where to look for runs.
            fresh: Forget every kept run.
        """
        self._planner = planner
        self._keeper = keeper
        self._shelf = shelf
        self._fresh = fresh

    async def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        """See `Planner.solve`."""
        async with aclosing(await self._begun(request)) as events:
            async for event in events:
                yield event

    async def _begun(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        run_id = request.run_id
        if run_id is None:
            return self._planner.solve(request)
        state = await asyncio.to_thread(self._state, run_id, request)
        if state == "ended":
            return self._keeper.replay(run_id)
        if state == "unfinished":
            return self._keeper.resume(run_id)
        await asyncio.to_thread(self._shelf.remove, run_id)
        return self._planner.solve(request)

    def _state(self, run_id: RunId, request: SolveRequest) -> Literal["ended", "unfinished", "new"]:
        try:
            record = self._shelf.record(run_id)
        except (NotFound, FailedPrecondition):
            return "new"  # there is none, or it cannot be read by this version
        if self._fresh or record.header.request != request:
            return "new"
        return "ended" if has_ended_by_itself(record.end) else "unfinished"


class FromRecords:
    """See `Planner`: solves from kept runs alone; nobody is asked."""

    def __init__(self, keeper: RunKeeper) -> None:
        self._keeper = keeper

    def solve(self, request: SolveRequest) -> AsyncGenerator[PlanEvent, None]:
        """See `Planner.solve`.

        Raises:
            NotFound: No run of the request's id is kept.
            FailedPrecondition: See `RunKeeper.replay`.
        """
        if request.run_id is None:
            raise InvalidArgument("a replay needs a run id")
        return self._keeper.replay(request.run_id)


async def _unheard(_: PlanEvent, /, *, until: float = inf) -> None:
    """Nobody listens while a tree is rebuilt."""


def _node(run: Run, node_id: int) -> Node:
    """A node of the run's trees.

    Raises:
        NotFound: They have no such node.
    """
    pending = list(run.search.found.roots) if run.search is not None else []
    while pending:
        node = pending.pop()
        if node.node_id == node_id:
            return node
        pending.extend(node.children)
    raise NotFound(f"run {run.run_id!r} has no node {node_id}; `toolwright runs show` lists them")


def _forked(run: Run, fork: ForkRequest, run_id: RunId) -> SolveRequest:
    """The new run's request: the old one's, with what the fork changes."""
    changes: dict[str, object] = {
        name: value
        for name in ("method", "limits", "allow_writes", "seed")
        if (value := getattr(fork, name)) is not None
    }
    # What the old run retrieved is part of its past: a fork does not search again.
    apis = fork.apis or tuple(document.ref for document in run.documents)
    return run.request.model_copy(update={**changes, "apis": apis, "run_id": run_id})
