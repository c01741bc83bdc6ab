"""What the log's records hold: arrays, as safetensors."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from guardrail.index.store.columns import STANDING, Packed

__all__ = ["put_body", "read_put", "read_withdraw", "withdraw_body"]


def put_body(first_id: int, packed: Packed, replaced: NDArray[np.int64]) -> bytes:
    """Rows that are added, from an id on, and the ids of those that they replace."""
    columns = dict(packed.columns)
    columns["standing"] = columns["standing"].view(np.uint8).reshape(len(packed), STANDING.itemsize)
    columns["banks"] = np.frombuffer(json.dumps(packed.banks).encode(), np.uint8)
    columns["first_id"] = np.array([first_id], np.int64)
    return bytes(save(columns | {"replaced": replaced}))


def read_put(body: bytes) -> tuple[int, Packed, NDArray[np.int64]]:
    """The first id, the rows, and the ids of those that they replace.

    Raises:
        ValueError: it is none.
    """
    columns = _arrays(body)
    try:
        first_id, replaced = int(columns.pop("first_id")[0]), columns.pop("replaced")
        banks = tuple(json.loads(columns.pop("banks").tobytes()))
        columns["standing"] = columns["standing"].reshape(-1).view(STANDING)
    except (KeyError, IndexError) as error:
        raise ValueError(f"a record without {error}") from error
    return first_id, Packed(banks, columns), replaced


def withdraw_body(rows: NDArray[np.int64]) -> bytes:
    """The ids of rows that are withdrawn."""
    return bytes(save({"withdrawn": rows}))


def read_withdraw(body: bytes) -> NDArray[np.int64]:
    """The ids of rows that are withdrawn.

    Raises:
        ValueError: it is no such record.
    """
    rows: NDArray[np.int64] = _arrays(body)["withdrawn"]
    return rows


def _arrays(body: bytes) -> dict[str, NDArray[Any]]:
    try:
        return dict(load(body))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
