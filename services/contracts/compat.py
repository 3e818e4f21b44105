"""Compatibility as a value: which quirks of ToolBench are reproduced (decision 1)."""

from services.contracts.base import WireModel


class Compat(WireModel):
    """Named switches, each one quirk of the reference; interop section numbers in brackets.

    All off is Toolwright's own behaviour (`NONE`); all on reproduces published numbers and the
    golden trees (`TOOLBENCH`). The reference's fixed sleeps are reproduced by neither.
    """

    match_function_suffix: bool = False
    """A call runs the first function whose name ends with the called name [3.1]."""

    drop_optional_only_parameters: bool = False
    """An API without required parameters is shown without parameters [1.4]."""

    codes_from_error_text: bool = False
    """Status is derived from the backend's exact error string only [3.1]."""

    toolbench_prompts: bool = False
    """The first user message has the reference's frame: newline, text, `Begin!` [4.1]."""

    first_step_give_up_ends_search: bool = False
    """A give-up as the very first action ends the whole search [5.4]."""

    discard_reply_at_call_limit: bool = False
    """The step that reaches `max_llm_calls` is paid for and its reply thrown away [5.4].
    Comparisons of siblings count, and are never refused [5.5]: ranking k children of one node costs
    k(k-1) calls more, however few are left."""

    dfs_renames_first_call_only: bool = False
    """In DFS an invented function name is replaced in the history only where it is the first call
    of its reply; ReAct replaces every one [5.4: histories are deep copies]."""

    repair_finish_arguments: bool = False
    """Broken JSON of Finish is searched for its fields, as the reference does [3.1]."""

    repeat_equal_calls: bool = False
    """A call that was made before is made again in every branch [5.3: nothing is shared]."""

    execute_writes_freely: bool = False
    """Calls that change something need no permission, may be made any number of times, and are not
    undone when their branch is abandoned [5.3: every call goes to the backend]."""

    ranking_may_lose_answers: bool = False
    """With ranking, an executed answer counts only when the search enters its node, and is lost
    when a sibling ranked before it ends the search; without the quirk it wins at once [5.4]."""

    ranking_votes_by_last_character: bool = False
    """A comparison is a vote for the first candidate when its text ends with `a`, and for the
    second one otherwise [5.5]; without the quirk the last letter `A` or `B` that stands alone is
    the vote, and a text without one is no vote."""

    ranking_marks_left_nodes_finished: bool = False
    """With ranking, a give-up marks the nodes above it as finished, like an answer [5.4]."""

    no_answer_at_limits: bool = False
    """A budget that ends the search ends it with nothing, whatever was found [5.3, 5.4]; without
    the quirk the model is asked a last time, within the budget, to answer from what was found."""

    no_loop_detection: bool = False
    """A branch that gets the same observation for the same call again and again goes on to the
    depth limit [5.3: only codes 3, 4, a failing model and the depth end a branch]."""

    no_compaction: bool = False
    """A conversation that is too long for the model ends its branch [5.3: an error of the model];
    without the quirk old observations and steps are shortened in what the model is sent."""

    cut_observations_at_end: bool = False
    """A long observation loses its end and is marked with `...` [3.1]; without the quirk its last
    quarter is kept too, and the mark says how much is missing."""

    no_reply_repair: bool = False
    """Replies are taken as they come: nothing is mended, no name is tidied, no argument is checked,
    and the model is never asked again [3.1, 4.3: no retry, no JSON repair]; without the quirk see
    `services.planner.reading`."""

    cot_ignores_call_limit: bool = False
    """Chains (`CoT@n`) are limited in depth and time, not by `max_llm_calls` [5.3]."""

    hint_near_names: bool = True
    """An unknown function's observation names close matches."""


TOOLBENCH = Compat(
    match_function_suffix=True,
    drop_optional_only_parameters=True,
    codes_from_error_text=True,
    toolbench_prompts=True,
    first_step_give_up_ends_search=True,
    discard_reply_at_call_limit=True,
    dfs_renames_first_call_only=True,
    repair_finish_arguments=True,
    repeat_equal_calls=True,
    execute_writes_freely=True,
    ranking_may_lose_answers=True,
    ranking_votes_by_last_character=True,
    ranking_marks_left_nodes_finished=True,
    no_answer_at_limits=True,
    no_loop_detection=True,
    no_compaction=True,
    cut_observations_at_end=True,
    no_reply_repair=True,
    cot_ignores_call_limit=True,
    hint_near_names=False,
)
NONE = Compat()
