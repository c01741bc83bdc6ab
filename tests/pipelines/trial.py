"""One class of the zoo under a guard: every case is run once, and kept for the tests and the table."""

import inspect
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from shelf import ShelfPlugin
from zoo.specimen import quiet

from guardrail.guard import Guard
from guardrail.records import Decision, Limits
from guardrail.settings import Policy, Settings

__all__ = ["Bench", "Outcome", "Trial", "denoisers", "leaves", "same"]

_WATCHED_BANK = "watched"  # whose works are flagged and never block


class Bench:
    """Two guards over one shelf: one with the shipped limits, one that does not mind pictures with little in them.

    Args:
        home: folder of their ledgers.
    """

    def __init__(self, home):
        plugin = ShelfPlugin()
        self.shelf = plugin.shelf
        shipped = Policy.shipped()
        flags = tuple(_flagging(rule) for rule in shipped.rules)
        policy = shipped.model_copy(update={"banks": {_WATCHED_BANK: flags}})
        said = {"index": "shelf://here", "device": "cpu", "policy": policy, "frame_every": 1, "proof": "never"}
        self.strict = Guard(settings=Settings(home=home / "strict", **said), plugins=[plugin])
        self.lax = Guard(
            settings=Settings(home=home / "lax", limits=Limits(pdq_quality_at_least=0), **said), plugins=[plugin]
        )

    def close(self):
        self.strict.memory.close()
        self.lax.memory.close()

    def protect(self, pictures, bank="protected"):
        """Let these pictures be the index."""
        from guardrail.carriers import ImageBatch

        batch = ImageBatch(tuple(pictures))
        self.shelf.put(self.lax.fingerprint(batch), batch.pictures, bank)


def _flagging(rule):
    return rule.model_copy(update={"decision": Decision.FLAG}) if rule.decision is Decision.BLOCK else rule


@dataclass
class Outcome:
    """What came of one guarded call: an output with the guard's report on it, or an error."""

    output: object = None
    report: object = None
    error: BaseException | None = None

    @property
    def decisions(self):
        return {str(verdict.decision) for verdict in self.report.verdicts} if self.report else set()


@dataclass
class Trial:
    """A specimen that goes through the cases on a bench."""

    specimen: object
    bench: Bench
    before: object = field(default=None, init=False)

    @cached_property
    def pipe(self):
        return self.specimen.made()

    @cached_property
    def arguments(self):
        return inspect.signature(type(self.pipe).__call__).parameters

    def _call(self, **said):
        pipe = self.pipe  # built with a seed of its own
        with quiet():
            torch.manual_seed(0)
            return pipe(**{**self.specimen.call(), **said})

    @cached_property
    def plain(self):
        """What it makes without a guard, and what it bears before one was ever around it."""
        output = self._call()
        self.before = traces(self.pipe)
        return output

    @cached_property
    def again(self):
        """The same, once more: what is not repeated here cannot be asked of a guarded call."""
        _ = self.plain
        return self._call()

    @cached_property
    def plain_tuple(self):
        """What it returns for `return_dict=False`, or as ever where there is no such argument."""
        _ = self.plain
        return self._call(**self._tuples)

    @property
    def _tuples(self):
        return {"return_dict": False} if "return_dict" in self.arguments else {}

    @cached_property
    def plain_latents(self):
        """What it returns for `output_type="latent"`, or None where there is no such thing."""
        if "output_type" not in self.arguments:
            return None
        _ = self.plain
        try:
            return self._call(output_type="latent")
        except Exception:  # noqa: BLE001 - each class refuses in its own way
            return None

    def guarded(self, guard, **said):
        """One guarded call, and the guard taken off again."""
        _ = self.plain
        with quiet():
            guard.wrap(self.pipe)
        try:
            output = self._call(**said)
            return Outcome(output, guard.last_report)
        except Exception as error:  # noqa: BLE001 - NaN makes each class fail in its own way; the tests look at it
            return Outcome(error=error)
        finally:
            guard.unwrap(self.pipe)

    @cached_property
    def accepted(self):
        self.bench.shelf.works = []
        return self.guarded(self.bench.lax)

    def _made(self):
        """The pictures it makes, as a guard that accepted them saw them."""
        if self.accepted.error is not None:
            raise self.accepted.error
        return [picture for picture in self.accepted.report.pictures if picture is not None]

    @cached_property
    def blocked(self):
        self.bench.protect(self._made())
        return self.guarded(self.bench.lax)

    @cached_property
    def flagged(self):
        """A match with a bank whose works only flag, returned as a tuple."""
        self.bench.protect(self._made(), _WATCHED_BANK)
        return self.guarded(self.bench.lax, **self._tuples)

    @cached_property
    def latents(self):
        """Latents asked for whose picture is protected."""
        if self.plain_latents is None:
            return None
        self.bench.protect(self._made())
        return self.guarded(self.bench.strict, output_type="latent")

    @cached_property
    def spoiled(self):
        """The same with NaN in every weight that makes pictures; the weights come back afterwards."""
        self.bench.shelf.works = []
        _ = self.plain
        with quiet():
            modules = denoisers(self.pipe)
        kept = [(weight, weight.detach().clone()) for module in modules for weight in module.parameters()]
        try:
            for weight, _ in kept:
                weight.data.fill_(float("nan"))
            return self.guarded(self.bench.strict)
        finally:
            for weight, value in kept:
                weight.data.copy_(value)


def denoisers(pipe):
    """The modules that make pictures: all but those that read the prompt or an input."""
    reads = (
        "text_encoder",
        "image_encoder",
        "bert",
        "controlnet",
        "adapter",
        "depth_estimator",
        "qformer",
        "text_decoder",
    )
    named = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return [part for name, part in named.items() if not any(word in name for word in reads)]


def traces(pipe):
    """What a guard could leave behind on a pipeline."""
    with quiet():  # `components` reads attributes in a way that diffusers itself calls deprecated
        return _traces(pipe)


def _traces(pipe):
    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    hooks = [
        (len(one._forward_hooks), len(one._forward_pre_hooks), "forward" in vars(one))
        for module in modules
        for one in module.modules()
    ]
    parts = {
        name: (type(part), frozenset(vars(part))) for name, part in pipe.components.items() if hasattr(part, "__dict__")
    }
    return {
        "class": type(pipe),
        "config": dict(pipe.config),
        "attributes": frozenset(vars(pipe)),
        "parts": {name: kind for name, (kind, _) in parts.items()},
        "methods": {name: names & {"forward", "step", "decode", "encode"} for name, (_, names) in parts.items()},
        "hooks": hooks,
    }


def leaves(value, name=""):
    """Every picture and array of an output, by where it stands in it."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{name}.{key}")]
    if isinstance(value, list | tuple):
        return [leaf for at, item in enumerate(value) for leaf in leaves(item, f"{name}[{at}]")]
    if isinstance(value, Image.Image | np.ndarray | torch.Tensor):
        return [(name, value)]
    return []


def numbers(leaf):
    """A leaf as a float array."""
    return np.asarray(leaf.detach().cpu() if isinstance(leaf, torch.Tensor) else leaf).astype(np.float64)


def form(leaf):
    """What must stay the same of a leaf when a card takes its place."""
    if isinstance(leaf, Image.Image):
        return ("pillow", leaf.mode, leaf.size)
    return (type(leaf).__name__, tuple(leaf.shape), str(leaf.dtype))


def same(one, other):
    """Whether two outputs hold the same pictures, bit by bit, in the same places and forms."""
    mine, theirs = leaves(one), leaves(other)
    return [name for name, _ in mine] == [name for name, _ in theirs] and all(
        form(left) == form(right) and np.array_equal(numbers(left), numbers(right), equal_nan=True)
        for (_, left), (_, right) in zip(mine, theirs, strict=True)
    )
