"""An accepted verdict and pixels, for the tests of this room."""

import struct
from datetime import UTC, datetime

import numpy as np

from guardrail.act import encode_png, sdk, sign
from guardrail.records import Credit, Decision, Neighbour, Signal, Verdict, Work


def accepted(**changes):
    """An accepted verdict with two neighbours and a credit."""
    near = Work(work_id="w-1", bank="demo", title="A fox", creator="Anna")
    said = {
        "image": "images[0]",
        "pixels_sha256": "1" * 64,
        "at": datetime.now(UTC),
        "decision": Decision.ACCEPT,
        "rule": "default",
        "explanation": "nothing protected is near",
        "evidence": (),
        "nearest": (
            Neighbour(work=near, row=0, signal=Signal.COPY, similarity=0.123456789012345),
            Neighbour(work=near, row=0, signal=Signal.PDQ, distance_bits=97),
        ),
        "credits": (
            Credit(
                work_id="w-2", bank="demo", title="Ü 中", creator="Bo", rights_holder="Bo & Co", licence="CC-BY-4.0"
            ),
        ),
        "index_snapshot": "2" * 64,
        "policy_sha256": "3" * 64,
        "calibration": "uncalibrated",
    }
    return Verdict(**said | changes)


def noise(height=48, width=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def chunks_of(png):
    """The types of a PNG's chunks, in order."""
    at, types = 8, []
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        types.append(png[at + 4 : at + 8])
        at += 12 + length
    return types


def state_of_a_fresh_signature(signing, seed):
    """Sign a picture and read it back: what c2pa says of it."""
    signed = sign(encode_png(noise(seed=seed)), accepted(), {}, signing)
    return sdk.read(signed.content, "image/png", signing.anchors).state
