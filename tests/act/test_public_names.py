import subprocess
import sys

import pytest

from guardrail import act


def test_every_public_name_is_there():
    assert dir(act) == sorted(act.__all__)
    assert all(getattr(act, name) is not None for name in act.__all__)


def test_unknown_name_says_where_to_look():
    with pytest.raises(AttributeError, match=r"guardrail\.act\.__all__"):
        _ = act.nothing_of_that_name


def test_room_itself_loads_nothing_heavy():
    code = "import sys, guardrail.act; print(*{'c2pa', 'torch', 'numpy', 'PIL', 'cryptography'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


def test_cards_and_encoding_do_not_load_c2pa():
    code = (
        "import sys; from guardrail.act import draw_card, encode_png; print(*{'c2pa', 'cryptography'} & {*sys.modules})"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


def test_signing_does_not_load_torch():
    code = "import sys; from guardrail.act import sign, verify_file; print(*{'torch'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""
