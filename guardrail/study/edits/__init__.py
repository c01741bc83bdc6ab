"""Picture edits with a name and an intensity from 0 to 100: what copies go through before they are met again."""

from guardrail.study.edits.base import FULL_INTENSITY, Edit, Family
from guardrail.study.edits.suites import EDITS, SUITES, Suite

__all__ = ["EDITS", "FULL_INTENSITY", "SUITES", "Edit", "Family", "Suite"]
