"""BabyAGI: a list of tasks that is worked off, added to, and put in order.

Source: Nakajima 2023 (BabyAGI), the loop of the original program: take the first task, execute it
in view of the objective and of earlier results, create tasks from its result, order the list.
Deviations: the first tasks are asked for instead of a fixed "develop a task list"; a task is
executed by up to three model calls with the run's functions, on one conversation, which stands for
the store of results; ordering is a permutation, so no task is lost or made up there; the loop ends
when the list is empty or the objective is reached, and an answer is asked for.
"""

import re
from typing import ClassVar, Final

from services.planner.prompts.planning import (
    DO_TASK,
    FIRST_TASKS,
    NEW_TASKS,
    ORDER_TASKS,
    TASK_DROPPED,
    TASKS_ANSWER,
)
from services.planner.search.base import Search, Shape
from services.planner.search.chain import Chain, begins_with, listed
from services.planner.tree import NodeType

MAX_ROUNDS: Final = 20
"""Tasks that are executed; the model's tasks may beget tasks for ever."""
MAX_NEW_TASKS: Final = 5
MAX_WAITING: Final = 20
STEPS_PER_TASK: Final = 3
_NUMBER: Final = re.compile(r"\d{1,3}")


class BabyAgi:
    """See `SearchMethod`. A task that is given up is dropped; the others go on."""

    shape: ClassVar[Shape] = "chains"
    width: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """See `SearchMethod.name`."""
        return "BabyAGI"

    async def run(self, search: Search) -> None:
        """See `SearchMethod.run`."""
        search.require_free_answers(self.name)
        chain = Chain(search, search.plant())
        await _work_off(chain)
        chain.accept()
        if not chain.leaf.is_terminal:
            await chain.answer(await chain.ask("answer", TASKS_ANSWER))
        await chain.close()


async def _work_off(chain: Chain) -> None:
    """Execute tasks until none waits, the objective is reached, or there is no room."""
    question = FIRST_TASKS.format(most=MAX_NEW_TASKS)
    waiting = listed(await chain.ask("tasks", question), most=MAX_NEW_TASKS)
    rounds = 0
    while waiting and rounds < MAX_ROUNDS and chain.has_room:
        rounds += 1
        task = waiting.pop(0)
        await _execute(chain, task)
        if chain.leaf.is_terminal:
            return
        question = NEW_TASKS.format(task=task, waiting=_numbered(waiting) or "none")
        reply = await chain.ask("tasks", question)
        if begins_with(reply, "done"):
            return
        new = [task for task in listed(reply, most=MAX_NEW_TASKS) if task not in waiting]
        waiting = (waiting + new)[:MAX_WAITING]
        if len(waiting) > 1:
            order = await chain.ask("order", ORDER_TASKS.format(waiting=_numbered(waiting)))
            waiting = _ordered(waiting, order)


async def _execute(chain: Chain, task: str) -> None:
    """Work on one task until the model says its result, answers, or gives it up."""
    before = chain.leaf
    chain.tell(DO_TASK.format(task=task))
    for _ in range(STEPS_PER_TASK):
        if not chain.has_room:
            return
        leaf = await chain.step()
        if leaf.is_pruned:
            await chain.go_back(TASK_DROPPED, to=before)
            return
        if leaf.is_terminal or leaf.node_type is NodeType.THOUGHT:
            return


def _numbered(tasks: list[str]) -> str:
    return "\n".join(f"{number}. {task}" for number, task in enumerate(tasks, start=1))


def _ordered(tasks: list[str], reply: str) -> list[str]:
    """The tasks in the order of the numbers in a reply; those it leaves out come last."""
    named = [int(number) - 1 for number in _NUMBER.findall(reply)]
    places = dict.fromkeys(place for place in named if 0 <= place < len(tasks))
    return [tasks[place] for place in (*places, *(set(range(len(tasks))) - places.keys()))]


METHODS = {"babyagi": lambda _: BabyAgi()}
