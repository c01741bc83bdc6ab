"""An accepted verdict and pixels, for the tests of this room."""

import struct
from datetime import UTC, datetime

import numpy as np

from guardrail.act import VERDICT_LABEL, decode_image, encode_image, sdk, sign, verdict_assertion
from guardrail.carriers import OutputPicture
from guardrail.records import Credit, Decision, Neighbour, Signal, Verdict, Work

ACTIONS = {
    "actions": [
        {
            "action": "c2pa.created",
            "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        }
    ],
    "allActionsIncluded": True,
}


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


def output_of(pixels=None, mime="image/png", **changes):
    """What is about to be signed: a picture, encoded."""
    content = encode_image(noise() if pixels is None else pixels, mime)
    return OutputPicture(**{"content": content, "mime": mime, "pixels": decode_image(content, mime)} | changes)


def why(verdict):
    """What the shipped plugin says of a verdict."""
    return {VERDICT_LABEL: verdict_assertion(verdict)}


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
    signed = sign(output_of(noise(seed=seed)), accepted(), {}, signing)
    return sdk.read(signed.content, "image/png", signing.anchors).state
