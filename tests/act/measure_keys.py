"""What keys and time stamps cost at 512x512: run `python tests/act/measure_keys.py` (needs openssl)."""

import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from act_samples import noise
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from key_samples import CREATED, credential, new_key, serve_time_stamps

from guardrail.act import TimeStamping, anchor_of, encode_png, raw_signature, sdk
from guardrail.act.own import fault_of

RUNS = 50
MICROSECONDS = 1_000_000


def cost(call):
    """Median CPU time of a call, in microseconds; openssl's own is not in it."""
    times = []
    for _ in range(RUNS):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return round(median(times) * MICROSECONDS)


def main():
    key, png = new_key(), encode_png(noise(512, 512))
    here = credential(key)
    leaf = here.leaf
    elsewhere = replace(
        here, key=None, sign_with=lambda content: raw_signature(key.sign(content, ec.ECDSA(hashes.SHA256())), leaf)
    )
    with tempfile.TemporaryDirectory() as folder:
        told, server = serve_time_stamps(Path(folder))
        stamped = replace(here, time_stamp=TimeStamping(told.url, (told.root,)))
        for name, signing in {"key in memory": here, "function that signs": elsewhere, "time stamp": stamped}.items():
            roots = signing.time_stamp.anchors if signing.time_stamp else ()
            content = sdk.embed(png, "image/png", CREATED, signing)
            found = sdk.read(content, "image/png", signing.anchors, (), roots)
            now = datetime.now(UTC)
            assert fault_of(found, signing, now) == ""
            print(f"{name}: {len(content) - len(png)} bytes added")
            print(f"  sign {cost(lambda s=signing: sdk.embed(png, 'image/png', CREATED, s))} us CPU")
            print(f"  read {cost(lambda c=content, r=roots: sdk.read(c, 'image/png', here.anchors, (), r))} us CPU")
            print(f"  is it ours {cost(lambda f=found, s=signing, n=now: fault_of(f, s, n))} us CPU")
            print(f"  anchor_of {cost(lambda f=found, n=now: anchor_of(f.chain, here.anchors, n))} us CPU")
        server.shutdown()


if __name__ == "__main__":
    main()
