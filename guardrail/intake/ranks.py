"""Under context parallelism every rank computes one picture together, so rank 0 judges it for all of them."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import distributed

__all__ = ["first_rank_says", "is_shared_by_ranks"]

_T = TypeVar("_T")


def is_shared_by_ranks(pipe: Any) -> bool:
    """Whether the denoiser of a pipeline is split among ranks that each hold the same output (context parallelism)."""
    return _group_of(pipe) is not None


def first_rank_says(pipe: Any, say: Callable[[], _T]) -> _T:
    """Let the first rank of a pipeline's context-parallel group say something, and every rank hear it.

    Args:
        pipe: the pipeline; without context parallelism `say` is simply called.
        say: called on the first rank only; what it returns, or raises, must be picklable.

    Returns:
        What the first rank said, on every rank.

    Raises:
        Exception: what it raised, on every rank.
    """
    group = _group_of(pipe)
    if group is None:
        return say()
    said: list[Any] = [None]
    if distributed.get_rank(group) == 0:
        try:
            said = [(say(), None)]
        except Exception as raised:  # noqa: BLE001 - the others wait for an answer, whatever it is
            said = [(None, raised)]
    distributed.broadcast_object_list(said, src=distributed.get_global_rank(group, 0), group=group)
    answer, error = said[0]
    if error is not None:
        raise error
    return answer  # type: ignore[no-any-return]


def _group_of(pipe: Any) -> Any:
    """The process group that shares a pipeline's denoiser, or None."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    for part in list(getattr(pipe, "__dict__", {}).values()):
        shared = getattr(getattr(part, "_parallel_config", None), "context_parallel_config", None)
        if isinstance(part, torch.nn.Module) and shared is not None:
            mesh = getattr(shared, "_flattened_mesh", None)
            return mesh.get_group() if mesh is not None else distributed.group.WORLD
    return None
