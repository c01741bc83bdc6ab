"""Build a plugin manager, and call guards and observers one by one, each with its failure rule."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import pluggy

from guardrail import hookspecs
from guardrail.carriers import OutputPicture
from guardrail.errors import EmbedderUnknown, IndexMismatch, IndexMissing, PluginFault, ReleaseFailed
from guardrail.protocols import Embedder, IndexBackend
from guardrail.records import CheckFailed, Evidence, GenerationContext, IndexHeader, MatchEvidence, Unproved, Verdict
from guardrail.settings import Settings

__all__ = [
    "Answer",
    "build_plugins",
    "call_guards",
    "call_observers",
    "claims_of",
    "evidence_of",
    "first_answer",
    "make_embedder",
    "open_index",
    "pinned_alike",
    "registered",
]

_GROUP = "guardrail"
log = logging.getLogger("guardrail.plugins")


class Answer(NamedTuple):
    """What one plugin answered: a value, or the error it raised."""

    plugin: str
    value: Any = None
    error: Exception | None = None


def build_plugins(plugins: Iterable[object] = ()) -> pluggy.PluginManager:
    """A plugin manager with the installed plugins (entry points in group `guardrail`), then the given ones.

    Raises:
        PluginFault: a plugin does not load, has a hook we do not know, or two have the same name.
    """
    hooks = pluggy.PluginManager(hookspecs.PROJECT)
    hooks.add_hookspecs(hookspecs)
    for entry in sorted(
        entry_points(group=_GROUP), key=lambda entry: (not entry.value.startswith("guardrail_hooks."), entry.name)
    ):
        try:
            plugin = entry.load()
        except Exception as error:
            raise PluginFault(entry.name, f"{type(error).__name__}: {error}") from error
        _register(hooks, plugin, entry.name)
    for plugin in plugins:
        _register(hooks, plugin, getattr(plugin, "__name__", None) or type(plugin).__name__)
    try:
        hooks.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginFault(str(error.plugin), str(error)) from error
    return hooks


def _register(hooks: pluggy.PluginManager, plugin: object, name: str) -> None:
    try:
        hooks.register(plugin, name=name)
    except (ValueError, pluggy.PluginValidationError) as error:
        raise PluginFault(name, str(error)) from error


def call_guards(
    hooks: pluggy.PluginManager, hook: str, *, only: Collection[str] | None = None, **given: Any
) -> Iterator[Answer]:
    """Call one hook plugin by plugin, first registered first, so that one crash loses no other answer.

    Args:
        hooks: the plugins.
        hook: its name.
        only: the names of the plugins to ask; None: all.
        given: the hook's arguments.
    """
    caller = getattr(hooks.hook, hook)
    for implementation in caller.get_hookimpls():
        if only is not None and implementation.plugin_name not in only:
            continue
        try:
            value = implementation.function(*(given[name] for name in implementation.argnames))
            yield Answer(implementation.plugin_name, value)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is its answer
            yield Answer(implementation.plugin_name, error=error)


def call_observers(hooks: pluggy.PluginManager, hook: str, **given: Any) -> None:
    """Tell every observer; an error is logged and changes nothing."""
    for answer in call_guards(hooks, hook, **given):
        if answer.error is not None:
            log.error("plugin %r failed in %s: %r", answer.plugin, hook, answer.error)


def first_answer(hooks: pluggy.PluginManager, hook: str, **given: Any) -> Answer | None:
    """The first answer that is not None, latest registered first, so that an own plugin comes before a shipped one."""
    answers = [answer for answer in call_guards(hooks, hook, **given) if answer.error or answer.value is not None]
    return answers[-1] if answers else None


def registered(hooks: pluggy.PluginManager, hook: str) -> dict[str, Any]:
    """All that the plugins offer through a `register_*` hook, by name.

    Raises:
        PluginFault: a plugin raised, or two offer the same name.
    """
    offered: dict[str, Any] = {}
    for answer in call_guards(hooks, hook):
        if answer.error is not None:
            raise PluginFault(answer.plugin, f"{hook}: {answer.error!r}") from answer.error
        mapping: Mapping[str, Any] = answer.value or {}
        for name, factory in mapping.items():
            if name in offered:
                raise PluginFault(answer.plugin, f"{hook}: {name!r} is offered by another plugin too")
            offered[name] = factory
    return offered


def make_embedder(hooks: pluggy.PluginManager, name: str, device: str, weights: Path | None = None) -> Embedder:
    """The embedder of a name such as `mini` or `clip:ViT-B-32/laion2b_s34b_b79k`.

    Args:
        hooks: the plugins.
        name: as typed, or as an index recorded it.
        device: a torch device name.
        weights: folder in which a model file that is named without a folder is looked for first.

    Raises:
        EmbedderUnknown: no plugin offers it.
        WeightsUnusable: its weights are missing or are others.
    """
    factories = registered(hooks, "register_embedders")
    scheme, _, rest = name.partition(":")
    if scheme not in factories:
        raise EmbedderUnknown(name, ", ".join(sorted(factories)))
    embedder: Embedder = factories[scheme](_located(rest, weights), device)
    return embedder


def _located(rest: str, weights: Path | None) -> str:
    """What follows an embedder's scheme, `[ARCH/]FILE[?OPTIONS]`, with the file's whole path if it lies in a folder."""
    named, mark, options = rest.partition("?")
    before, slash, file = named.rpartition("/")
    if weights is None or not file or "/" in before or (slash and Path(named).is_file()):
        return rest
    found = weights / file
    return f"{before}{slash}{found}{mark}{options}" if found.is_file() else rest


def open_index(hooks: pluggy.PluginManager, location: str, device: str = "cpu") -> IndexBackend:
    """Open an index: a plain path by the backend `folder`, `scheme://...` by the backend of that scheme.

    Args:
        hooks: the plugins.
        location: path or URL.
        device: where it is searched, if it is searched here: `cpu` or a CUDA device.

    Raises:
        IndexMissing: there is none, or no plugin opens such a location.
        IndexDamaged: it cannot be trusted.
    """
    backends = registered(hooks, "register_index_backends")
    scheme = location.split("://", 1)[0] if "://" in location else "folder"
    if scheme not in backends:
        raise IndexMissing(location, f"no backend for {scheme}://; there are {', '.join(sorted(backends))}")
    backend: IndexBackend = backends[scheme](location, device)
    if getattr(backend, "header", None) is not None and not backend.header.works:
        log.warning("index %r holds no works: nothing can be found; add some with guardrail index add", location)
    return backend


def pinned_alike(index: IndexBackend, like: IndexHeader, location: str) -> IndexBackend:
    """An index as it is now, if it still holds fingerprints like those of a header.

    Raises:
        IndexMismatch: it was built anew with other embedders, hashes or sampling.
        IndexMissing, IndexDamaged: it cannot be trusted any more.
    """
    now = index.pinned()
    header = now.header
    for made, asked in (
        (header.embedders, like.embedders),
        (header.hashes, like.hashes),
        (header.sampling, like.sampling),
    ):
        if made != asked:
            raise IndexMismatch(location, str(made), str(asked))
    return now


def evidence_of(answer: Answer, image: str) -> Iterator[Evidence]:
    """What one plugin found; a crash or an answer of another kind is evidence that a check failed."""
    found = () if answer.value is None else answer.value
    kinds = MatchEvidence | Unproved
    listed = isinstance(found, Sequence) and not isinstance(found, str | bytes)
    if answer.error is None and listed and all(isinstance(one, kinds) for one in found):
        yield from found
    else:
        reason = repr(answer.error) if answer.error else f"it answered {type(answer.value).__name__}, not evidence"
        yield CheckFailed(check=f"find_evidence:{answer.plugin}", image=image, error=reason)


def claims_of(
    hooks: pluggy.PluginManager,
    verdict: Verdict,
    context: GenerationContext | None,
    output: OutputPicture,
    settings: Settings,
) -> dict[str, Any]:
    """What the plugins say of an accepted output, by assertion label.

    Raises:
        ReleaseFailed: a plugin raised, or two say the same.
    """
    claims: dict[str, Any] = {}
    given: dict[str, Any] = {"verdict": verdict, "context": context, "output": output, "settings": settings}
    for answer in call_guards(hooks, "describe_output", **given):
        if answer.error is not None:
            raise ReleaseFailed(verdict.image, f"plugin {answer.plugin!r} failed: {answer.error!r}") from answer.error
        for label, content in (answer.value or {}).items():
            if label in claims:
                raise ReleaseFailed(verdict.image, f"two plugins say {label!r}")
            claims[label] = content
    return claims
