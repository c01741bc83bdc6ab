"""A run and what the settings know of adapters in; the facts, indexes and failed checks that follow from it out."""

from collections.abc import Mapping
from typing import NamedTuple

from guardrail.records import Adapter, CheckFailed, GenerationContext
from guardrail.settings import AdapterSettings

__all__ = ["AdapterIndex", "active_adapter_indexes", "adapter_failures", "with_adapter_facts"]


class AdapterIndex(NamedTuple):
    """An index of training images, and the adapter (by its name in the settings) for which it is searched."""

    adapter: str
    location: str


def with_adapter_facts(context: GenerationContext, known: Mapping[str, AdapterSettings]) -> GenerationContext:
    """The run, with what the settings know of its adapters: their names there, on how many images each was trained.

    An adapter is known by its sha256, whatever it is called, or by its name. One whose sha256 is not the one that the
    settings give for its name, or could not be read, gets no facts and is marked as `doubted`: see `adapter_failures`.
    """
    if not known or not context.adapters:
        return context
    return context.model_copy(update={"adapters": tuple(_with_facts(one, known) for one in context.adapters)})


def _with_facts(adapter: Adapter, known: Mapping[str, AdapterSettings]) -> Adapter:
    name = _known_as(adapter, known)
    if name is None:
        return adapter
    doubted = _is_another(adapter, known[name])
    trained_on = None if doubted else known[name].trained_on
    return adapter.model_copy(update={"known_as": name, "doubted": doubted, "trained_on": trained_on})


def active_adapter_indexes(
    context: GenerationContext | None, known: Mapping[str, AdapterSettings]
) -> tuple[AdapterIndex, ...]:
    """The indexes to search besides the guard's own: those of the adapters that a run had on, fused ones too.

    Where the adapters of a run could not be read, every index that the settings name is searched. An adapter whose
    sha256 is another than the settings say still has the index of its name searched: it costs little, and may find.
    """
    if context is None:
        return ()
    if context.is_unread("adapters"):
        names = set(known)
    else:
        names = {name for adapter in context.adapters if (name := _known_as(adapter, known)) is not None}
    return tuple(AdapterIndex(name, known[name].index) for name in sorted(names) if known[name].index)


def adapter_failures(
    context: GenerationContext | None, known: Mapping[str, AdapterSettings], image: str
) -> tuple[CheckFailed, ...]:
    """Failed checks, one for each active adapter that is not, or may not be, the one the settings name.

    Args:
        context: the run, or None where there was none.
        known: what the settings know of adapters.
        image: the image to be judged, for messages.
    """
    if context is None:
        return ()
    failures: dict[str, CheckFailed] = {}
    for adapter in context.adapters:
        name = _known_as(adapter, known)
        if name is None or not _is_another(adapter, known[name]):
            continue
        found = f"sha256 {adapter.sha256[:12]}" if adapter.sha256 else "a sha256 that could not be read"
        error = f"adapter {adapter.name!r} has {found}, but the settings know it by {str(known[name].sha256)[:12]}"
        failures.setdefault(name, CheckFailed(check="adapter", image=image, error=error))
    return tuple(failures.values())


def _known_as(adapter: Adapter, known: Mapping[str, AdapterSettings]) -> str | None:
    """The name under which the settings know an adapter: the one with its sha256, or else its own."""
    if adapter.sha256 is not None:
        same = [name for name, facts in known.items() if facts.sha256 == adapter.sha256]
        if same:
            return adapter.name if adapter.name in same else same[0]
    return adapter.name if adapter.name in known else None


def _is_another(adapter: Adapter, facts: AdapterSettings) -> bool:
    return facts.sha256 is not None and facts.sha256 != adapter.sha256
