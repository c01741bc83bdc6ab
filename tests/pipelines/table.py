"""Print docs/pipelines.md, run as `python tests/pipelines/table.py > docs/pipelines.md`."""

# ruff: noqa: E501 - the page has one sentence a line

import logging
import os
import sys
import tempfile
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before diffusers is imported

import diffusers
import torch
import transformers
from test_every_pipeline import CASES, HELD_BACK
from trial import Bench, Trial
from zoo import FAMILIES, NOT_BUILT, SPECIMENS
from zoo.transformers_modular import MODULAR

_DENOISERS = ("unet", "transformer", "image_unet", "decoder", "prior_prior", "prior", "denoiser")
_WORKERS = 4
_HEAD = "| class | family | returns | " + " | ".join(CASES) + " | step callback | denoiser | note |"


class Watched:
    """Counts what a pipeline asks of its denoiser in one call, without a guard."""

    def __init__(self, pipe):
        found = [(name, getattr(pipe, name, None)) for name in _DENOISERS]
        self.name, self.part = next(
            ((name, part) for name, part in found if isinstance(part, torch.nn.Module)), ("", None)
        )
        self.rows, self.times = [], []

    def __enter__(self):
        if self.part is not None:
            self._hook = self.part.register_forward_pre_hook(self._note, with_kwargs=True)
        return self

    def __exit__(self, *exc):
        if self.part is not None:
            self._hook.remove()

    def _note(self, module, args, kwargs):
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor) and value.ndim > 1]
        lists = [value for value in (*args, *kwargs.values()) if isinstance(value, list)]
        self.rows.append(len(tensors[0]) if tensors else len(lists[0]) if lists else 0)
        time = kwargs.get("timestep", kwargs.get("t", args[1] if len(args) > 1 else None))
        self.times.append(tuple(torch.as_tensor(time).flatten().tolist()[:1]) if time is not None else ())

    @property
    def said(self):
        """How often a step calls it, and with how many rows."""
        if not self.rows:
            return "not called as a module"
        steps = len(set(self.times)) or 1
        calls = len(self.rows) / steps
        rows = Counter(self.rows).most_common(1)[0][0]
        return f"`{self.name}` {calls:.3g} x {rows}"


def row(name, bench):
    """One line of the table."""
    specimen = SPECIMENS[name]
    trial = Trial(specimen, bench)
    _ = trial.plain  # before anything is hooked on
    with Watched(trial.pipe) as watched:
        _ = trial.again
    cells = []
    for case, check in CASES.items():
        try:
            cells.append(check(trial) or "yes")
        except Exception as error:  # noqa: BLE001 - one class that fails must not hide the others
            cells.append("**no**")
            print(name, case, "fails:", str(error)[:200], file=sys.stderr)
    callback = "yes" if "callback_on_step_end" in trial.arguments else "old" if "callback" in trial.arguments else "no"
    family = FAMILIES[name].removeprefix("transformers_")
    note = "; ".join(part for part in (HELD_BACK.get(name, ""), specimen.note) if part)
    line = [f"`{name}`", family, specimen.returns, *cells, callback, watched.said, note]
    return "| " + " | ".join(line) + " |", cells


def rows_of(names):
    """The lines of some classes, on a bench of their own."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        lines = []
        for name in names:
            lines.append(row(name, bench))
            print(name, file=sys.stderr)
        bench.close()
    return lines


def main():
    names, tally = sorted(SPECIMENS), {case: Counter() for case in CASES}
    shares = [names[at::_WORKERS] for at in range(_WORKERS)]
    with ProcessPoolExecutor(_WORKERS) as pool:
        done = {
            name: line
            for share, lines in zip(shares, pool.map(rows_of, shares), strict=True)
            for name, line in zip(share, lines, strict=True)
        }
    for _, cells in done.values():
        for case, cell in zip(CASES, cells, strict=True):
            tally[case][cell] += 1
    print(_page([done[name][0] for name in names], tally))


def _page(rows, tally):
    counted = {
        case: ", ".join(f"{count} {cell.strip('*')}" for cell, count in counts.most_common())
        for case, counts in tally.items()
    }
    films = sum(specimen.returns == "frames" for specimen in SPECIMENS.values())
    head = f"""\
# Every pipeline

`guard.wrap` takes any diffusers pipeline, and this page says of every class what came of it.
{len(SPECIMENS)} classes are built tiny, from configurations alone and with random weights, and called under a real guard: {films} return the frames of films, the others images.
Below are the {len(NOT_BUILT)} exported classes that are not built, each with its reason.
{len(MODULAR)} modular pipelines stand apart from the table: `tests/pipelines/test_every_modular.py` asserts of each that an accepted state is the pipeline's own, and that a blocked one holds cards and no latents.

Written by `python tests/pipelines/table.py` on {date.today().isoformat()} with diffusers {diffusers.__version__}, transformers {transformers.__version__} and torch {torch.__version__.partition("+")[0]}; `tests/pipelines/test_every_pipeline.py` asserts the same in every run of the tests.

## What is asked

accepted
:   With nothing near in the index the guarded output is that of the unguarded pipeline with the same seed, bit by bit and of the same type: {counted["accepted"]}.

blocked
:   With the pipeline's own pictures in the index every one of them is blocked, and a card of the same form comes out in its place: {counted["blocked"]}.

flagged
:   With a policy that flags instead, and `return_dict=False`, they are held in the same way: {counted["flagged"]}.

NaN
:   With NaN in every weight that makes pictures nothing is accepted, and no black picture comes out; `error` means that the pipeline itself fails before it returns: {counted["NaN"]}.

latents
:   With `output_type="latent"` and the picture in the index the latents do not come out: they were decoded and `blocked`, or `refused`; `none` means that the class returns none: {counted["latents"]}.

unwrapped
:   After `guard.unwrap` the class, the configuration, the attributes, the methods and the hooks are those of before: {counted["unwrapped"]}.

step callback
:   Whether the class takes `callback_on_step_end`, or the old `callback`.

denoiser
:   How often a step calls the model that denoises, and with how many rows: two rows for one picture are a pair with and without the prompt.

## The classes

{_HEAD}
|{" --- |" * (_HEAD.count("|") - 1)}
"""
    missing = "\n".join(f"| `{name}` | {reason} |" for name, reason in sorted(NOT_BUILT.items()))
    return head + "\n".join(rows) + f"\n\n## Not built\n\n| class | why |\n| --- | --- |\n{missing}"


if __name__ == "__main__":
    main()
