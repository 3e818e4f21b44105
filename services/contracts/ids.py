"""Identifiers. Distinct types, so that a run id cannot be passed where a sample id is meant."""

from typing import NewType

RunId = NewType("RunId", str)
"""One search: a request to the planner."""

RequestId = NewType("RequestId", str)
"""One request from outside, through every service it touches."""

SampleId = NewType("SampleId", str)
"""One (instruction, method) of an evaluation; stable over redeliveries and restarts."""
