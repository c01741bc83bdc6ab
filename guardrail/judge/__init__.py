"""Neighbours and a run in, verdicts out: gathers evidence, applies the policy; pure Python and NumPy, without I/O."""

from guardrail.judge.adapters import AdapterIndex, active_adapter_indexes, adapter_failures, with_adapter_facts
from guardrail.judge.decide import Findings, decide, graver
from guardrail.judge.gather import gather, nearest_works, reached
from guardrail.judge.inputs import KnownInputs, input_matches, known_inputs

__all__ = [
    "AdapterIndex",
    "Findings",
    "KnownInputs",
    "active_adapter_indexes",
    "adapter_failures",
    "decide",
    "gather",
    "graver",
    "input_matches",
    "known_inputs",
    "nearest_works",
    "reached",
    "with_adapter_facts",
]
