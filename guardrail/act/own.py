"""Whether a manifest that was just written reads back as ours, by certificates and time stamp."""

from datetime import datetime, timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from guardrail.act.certificates import anchor_of
from guardrail.act.keys import Signing
from guardrail.act.sdk import ANCHOR_LIST, Reading

__all__ = ["fault_of"]

_CLOCKS_APART = timedelta(minutes=5)  # a time stamp server whose clock is further off than this is not believed


def fault_of(reading: Reading, signing: Signing, at: datetime) -> str:
    """Why what was read back is not what a credential signed a moment ago; empty where it is.

    c2pa's `Trusted` is not enough: it takes any anchor it was given for any purpose. So the certificates in the file
    must be those of the credential and lead to one of its anchors, and where a time stamp was asked for there must be
    one that holds, from a server that is believed, of this moment.

    Args:
        reading: what was read, with the credential's anchors and those of its time stamp server.
        signing: the credential.
        at: now.
    """
    if reading.state != "Trusted" or reading.trusted_by != ANCHOR_LIST or reading.failures:
        found = f"{reading.state} ({', '.join(reading.failures) or 'no failed check'})"
        return f"its manifest is {found}, where Trusted under our anchor was expected"
    if not reading.chain or reading.chain[0] != signing.leaf.public_bytes(Encoding.DER):
        return f"it was signed with another certificate than that of {signing.source!r}"
    if anchor_of(reading.chain, signing.anchors, at) is None:
        return "its certificates lead to none of our anchors"
    return _stamp_fault(reading, signing, at)


def _stamp_fault(reading: Reading, signing: Signing, at: datetime) -> str:
    if signing.time_stamp is None:
        return ""
    place = signing.time_stamp.place
    if reading.time_stamp is None:
        return f"it has no time stamp, where one of {place} was expected"
    if not reading.time_stamp.trusted:
        wrong = ", ".join(code for code in reading.informational if code.startswith("timeStamp.")) or "not validated"
        return f"its time stamp of {place} is {wrong}, where one under the time stamp anchors was expected"
    if abs(reading.time_stamp.at - at) > _CLOCKS_APART:
        return f"its time stamp of {place} says {reading.time_stamp.at}, where {at} was expected; set the clocks right"
    return ""
