"""Undoes what abandoned branches changed, by the inverse calls that their APIs register.

Source: Garcia-Molina and Salem 1987 (Sagas), section 2: compensations run from the last change to
the first. Deviation: one that fails is not tried again; the model is told that its change stands.
"""

import json
from collections.abc import Awaitable, Callable, Collection

import structlog

from services.contracts.planner import PlanEvent, ToolStarted
from services.contracts.toolenv import CallStatus
from services.planner.actions import ActionRunner
from services.planner.effects import Deed, Site, inverse_arguments
from services.planner.tree import Node

log = structlog.get_logger()

_STANDS = (
    "Note: earlier steps, which are not part of this conversation, made these calls. They changed "
    "something, and were not undone:"
)
_MAX_SHOWN = 20  # calls of one note
_MAX_SHOWN_CHARS = 400  # arguments of one call


class Undo:
    """Undoes changes of one run."""

    def __init__(
        self,
        *,
        actions: ActionRunner,
        emit: Callable[[PlanEvent], Awaitable[None]],
        next_call: Callable[[], int],
    ) -> None:
        """Bind the run.

        Args:
            actions: Makes the inverse calls.
            emit: Told of each.
            next_call: Numbers them among the run's actions.
        """
        self._actions = actions
        self._emit = emit
        self._next_call = next_call

    async def abandon(self, nodes: Collection[Node]) -> None:
        """Undo what no other branch relies on, newest first.

        Args:
            nodes: The abandoned ones.

        Raises:
            BudgetSpent: The run's deadline came first.
        """
        ledger = self._actions.ledger
        for deed in ledger.abandon(nodes):
            async with ledger.turn(deed.document, deed.arguments):
                # Another branch may have come to rely on it while its predecessors were undone.
                if not deed.relying and _can_be_undone(deed) and await self._undo(deed):
                    ledger.undone(deed)

    def note(self, node: Node) -> str | None:
        """What the model must be told where the search goes on, about changes that stand."""
        standing = self._actions.ledger.untold(node)
        if not standing:
            return None
        calls = [
            f"{deed.document.api_name} of {deed.document.tool_name} with "
            f"{deed.arguments[:_MAX_SHOWN_CHARS]}"
            for deed in standing[:_MAX_SHOWN]
        ]
        more = [f"and {len(standing) - _MAX_SHOWN} more"] if len(standing) > _MAX_SHOWN else []
        return "\n".join([_STANDS, *(f"- {line}" for line in calls + more)])

    async def _undo(self, deed: Deed) -> bool:
        """Make the inverse call; whether it succeeded."""
        site, inverse = deed.site, deed.document.inverse
        assert site is not None and inverse is not None
        deed.undo_was_tried = True
        try:
            arguments = json.dumps(inverse_arguments(deed))
        except ValueError as exc:
            log.warning("inverse_call_impossible", api=str(inverse.api), reason=str(exc))
            return False
        call_id = self._next_call()
        place = _place(site)
        await self._emit(
            ToolStarted(
                **place,
                call_id=call_id,
                function=self._actions.name_of(inverse.api),
                arguments=arguments,
                api=inverse.api,
                compensates=site.call_id,
            )
        )
        try:
            outcome = await self._actions.undo(deed, arguments, call_id=call_id)
        except BaseException:
            left = self._actions.interrupted(call_id)
            if left is not None:
                await self._emit(left.told(**place, call_id=call_id))
            raise
        await self._emit(outcome.told(**place, call_id=call_id))
        if outcome.status is CallStatus.OK:
            return True
        log.warning("inverse_call_failed", api=str(inverse.api), status=outcome.status)
        return False


def _can_be_undone(deed: Deed) -> bool:
    return (
        deed.site is not None
        and deed.document.inverse is not None
        and deed.observation.status is CallStatus.OK
        and not deed.undo_was_tried
    )


def _place(site: Site) -> dict[str, int]:
    return {
        "node_id": site.expanded.node_id,
        "expansion": site.expansion,
        "depth": site.expanded.depth,
    }
