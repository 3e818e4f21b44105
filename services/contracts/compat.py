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
    """The model call that reaches `max_llm_calls` is paid for and its reply thrown away [5.4]."""

    dfs_renames_first_call_only: bool = False
    """In DFS an invented function name is replaced in the history only where it is the first call
    of its reply; ReAct replaces every one [5.4: histories are deep copies]."""

    repair_finish_arguments: bool = False
    """Broken JSON of Finish is searched for its fields, as the reference does [3.1]."""

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
    hint_near_names=False,
)
NONE = Compat()
