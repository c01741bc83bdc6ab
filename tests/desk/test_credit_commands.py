"""`guardrail adapters` and `guardrail credit report`: what is due to whom, by the prices that held."""

import csv
import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from guardrail.desk.cli import app
from guardrail.intake import adapter_file_digest
from guardrail.memory import Held, Memory
from guardrail.records import (
    Adapter,
    AdapterShare,
    Attribution,
    AttributionMethod,
    Credit,
    CreditReport,
    Decision,
    GenerationContext,
    Release,
    Verdict,
)

NOW = datetime(2026, 11, 22, tzinfo=UTC)
FOX = Credit(work_id="fox", bank="zoo", title="=A fox", creator="Ada", rights_holder="Zoo Ltd", licence="CC-BY")


def run(*args):
    said = CliRunner().invoke(app, [str(arg) for arg in args])
    if said.exception is not None and not isinstance(said.exception, SystemExit):
        raise said.exception
    return said


class Shop:
    """A ledger, commands on it, and releases as a guard enters them."""

    def __init__(self, folder):
        self.folder, self.file = folder, folder / "memory.db"
        self.count = 0

    def adapter(self, name, value=1.0):
        file = self.folder / f"{name}.safetensors"
        save_file({"lora_A.weight": torch.full((2, 3), value), "lora_B.weight": torch.full((3, 2), value)}, file)
        return file, adapter_file_digest(file)

    def run(self, *args):
        return run(*args, "--memory", self.file)

    def json(self, *args):
        return json.loads(self.run(*args, "--json").stdout)

    def release(self, *adapters, at=NOW, owed=(), unread=(), share=None):
        """One released image with adapters as (name, sha256, weight), one an attribution where a share is said."""
        self.count += 1
        verdict_id = hashlib.md5(str(self.count).encode(), usedforsecurity=False).hexdigest()
        said = {"image": "i.png", "rule": "r", "explanation": "e", "calibration": "uncalibrated", "at": at}
        digests = {"pixels_sha256": "a" * 64, "index_snapshot": "b" * 64, "policy_sha256": "c" * 64}
        verdict = Verdict(
            verdict_id=verdict_id, decision=Decision.ACCEPT, evidence=(), nearest=(), credits=owed, **said, **digests
        )
        laid = tuple(
            Adapter(name=name, sha256=sha256, weight=weight, component=part)
            for name, sha256, weight in adapters
            for part in ("unet", "text_encoder")
        )
        context = GenerationContext(pipeline="P", adapters=laid, unread=unread)
        release = {"file": f"{self.count}.png", "file_sha256": "d" * 64, "manifest_id": f"urn:{self.count}", "at": at}
        memory = Memory(f"sqlite:///{self.file}")
        try:
            memory.record_verdicts([Held(verdict)], context)
            memory.record_release(Release(verdict_id=verdict_id, **release))
            if share is not None:
                memory.record_attribution(_attribution(verdict_id, adapters[0], share))
        finally:
            memory.close()


def _attribution(verdict_id, adapter, share):
    name, sha256, _ = adapter
    method = AttributionMethod(
        function="noise_norm", draws=1, counters=1, seed=0, damping=1, images=1, decoys=1, weights_sha256="e" * 64
    )
    shares = (AdapterShare(name=name, sha256=sha256, share=share),)
    return Attribution(verdict_id=verdict_id, method=method, adapters=shares, base_share=1 - share)


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def add(shop, file, price="0.02", **also):
    options = {"--holder": "Ada", "--price": price, "--currency": "EUR"} | also
    return shop.run("adapters", "add", file, *(part for option in options.items() for part in option))


def test_registered_file_has_the_digest_that_runs_report(shop):
    file, digest = shop.adapter("ghibli")
    assert "registered ghibli of Ada" in add(shop, file).output
    (one,) = shop.json("adapters", "list")["adapters"]
    assert (one["name"], one["weights_sha256"], one["price"]) == ("ghibli", digest, "0.02")
    assert add(shop, "f" * 64, **{"--name": "by-digest"}).exit_code == 0


def test_history_shows_every_price_and_removal(shop):
    file, _ = shop.adapter("ghibli")
    add(shop, file)
    add(shop, file, "0.03")
    assert "removed ghibli" in shop.run("adapters", "remove", "ghibli").output
    history = shop.json("adapters", "list", "--history")["adapters"]
    assert [(one["change"], one["price"]) for one in history] == [
        ("registered", "0.02"),
        ("registered", "0.03"),
        ("removed", "0.03"),
    ]
    assert shop.run("adapters", "list").output == "no adapter is registered\n"


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["--price", "cheap"], "found 'cheap', expected a number of 0 or more"),
        (["--price", "-1"], "found '-1', expected a number"),
        (["--price", "nan"], "found 'nan', expected a number"),
        (["--currency", "euro"], "found 'euro', expected three capitals"),
    ],
)
def test_price_that_is_none_is_refused(shop, args, found):
    file, _ = shop.adapter("ghibli")
    with pytest.raises(ValueError, match=found):
        shop.run("adapters", "add", file, "--holder", "Ada", *args)


def test_file_that_is_no_adapter_is_refused(shop):
    shop.folder.joinpath("x.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        add(shop, shop.folder / "x.safetensors")


def test_use_is_priced_by_what_held_when_it_was_released(shop):
    file, digest = shop.adapter("ghibli")
    laid = ("my-style", digest, 0.5)
    shop.release(laid)
    add(shop, file, "0.02")
    for _ in range(3):
        shop.release(laid)
    add(shop, file, "0.05")
    shop.release(("my-style", digest, 1.0), share=0.25)
    found = CreditReport.model_validate(shop.json("credit", "report"))
    (use,) = found.adapters
    assert [(one.price, one.images) for one in use.prices] == [(Decimal("0.02"), 3), (Decimal("0.05"), 1)]
    assert (use.amount, use.currency, use.images) == (Decimal("0.11"), "EUR", 4)
    assert found.amounts == {"EUR": Decimal("0.11")}
    assert (use.share, use.attributed) == (0.25, 1)
    assert (use.weights.low, use.weights.mean, use.weights.high) == (0.5, 0.625, 1.0)
    (before,) = found.unregistered
    assert (before.name, before.images, before.registered_since) == ("my-style", 1, True)


def test_adapter_is_known_by_its_digest_and_never_by_its_name(shop):
    file, _ = shop.adapter("ghibli")
    add(shop, file)
    shop.release(("ghibli", "9" * 64, 1.0))
    shop.release(("ghibli", None, 1.0))
    found = CreditReport.model_validate(shop.json("credit", "report"))
    assert found.adapters == ()
    assert {(one.name, one.weights_sha256) for one in found.unregistered} == {("ghibli", "9" * 64), ("ghibli", None)}
    assert not any(one.registered_since for one in found.unregistered)


def test_removed_adapter_is_due_nothing_more(shop):
    file, digest = shop.adapter("ghibli")
    add(shop, file)
    shop.release(("ghibli", digest, 1.0))
    shop.run("adapters", "remove", "ghibli")
    shop.release(("ghibli", digest, 1.0))
    found = CreditReport.model_validate(shop.json("credit", "report"))
    assert [one.images for one in found.adapters] == [1]
    assert [one.images for one in found.unregistered] == [1]


def test_new_holder_is_due_from_the_change_on(shop):
    file, digest = shop.adapter("ghibli")
    add(shop, file)
    shop.release(("ghibli", digest, 1.0))
    add(shop, file, **{"--holder": "Bo"})
    shop.release(("ghibli", digest, 1.0))
    found = CreditReport.model_validate(shop.json("credit", "report"))
    assert [(one.holder, one.amount) for one in found.adapters] == [("Ada", Decimal("0.02")), ("Bo", Decimal("0.02"))]


def test_adapters_that_take_works_out_stand_apart(shop):
    one, first = shop.adapter("ghibli", 1.0)
    other, second = shop.adapter("no-fox", 2.0)
    add(shop, one)
    add(shop, other, **{"--extracts": "zoo/fox"})
    shop.release(("ghibli", first, 1.0), ("no-fox", second, -1.0))
    found = CreditReport.model_validate(shop.json("credit", "report"))
    assert [use.name for use in found.adapters] == ["ghibli"]
    assert [(use.name, use.extracts) for use in found.extractions] == [("no-fox", "zoo/fox")]
    assert found.amounts == {"EUR": Decimal("0.04")}


def test_images_of_which_something_is_not_known_are_counted(shop):
    shop.release()
    shop.release(unread=("adapters: nothing says by what",))
    said = shop.run("credit", "report")
    assert "2 images released" in said.output
    assert "1 images of which not all adapters could be read" in said.output
    found = CreditReport.model_validate(shop.json("credit", "report"))
    assert (found.without_adapters, found.adapters_unread, found.runs_unknown) == (1, 1, 0)


def test_report_is_of_the_time_that_was_asked_for(shop):
    for day in range(3):
        shop.release(at=NOW + timedelta(days=day), owed=(FOX,))
    assert shop.json("credit", "report", "--since", "2026-11-23", "--until", "2026-11-24")["images"] == 1
    assert shop.json("credit", "report", "--until", "2026-11-24T00:00:00+02:00")["images"] == 2
    with pytest.raises(ValueError, match="expected a day or time"):
        shop.run("credit", "report", "--since", "yesterday")


def test_csv_has_a_line_for_each_price_work_and_unknown_adapter(shop):
    file, digest = shop.adapter("ghibli")
    add(shop, file)
    shop.release(("ghibli", digest, -0.5), owed=(FOX,))
    add(shop, file, "0.03")
    shop.release(("ghibli", digest, -0.5), ("other", "9" * 64, 1.0), owed=(FOX,))
    rows = list(csv.DictReader(shop.run("credit", "report", "--format", "csv").stdout.splitlines()))
    assert [row["line"] for row in rows] == ["adapter", "adapter", "unregistered", "work"]
    assert [row["amount"] for row in rows[:2]] == ["0.02", "0.03"]
    assert [row["weight_mean"] for row in rows[:2]] == ["-0.5", ""]
    assert (rows[3]["holder"], rows[3]["name"], rows[3]["images"]) == ("Zoo Ltd", "'=A fox", "2")


def test_text_names_holders_sums_and_works(shop):
    file, digest = shop.adapter("ghibli")
    add(shop, file)
    shop.release(("ghibli", digest, 1.0), ("other", "9" * 64, 1.0), owed=(FOX,))
    said = " ".join(shop.run("credit", "report").output.split())
    assert "1 images released from the start" in said
    assert "Ada ghibli 1 1.00 none kept 0.02 0.02 EUR" in said
    assert "not registered: other (lora, sha256 999999999999): 1 images" in said
    assert "credited: Zoo Ltd: zoo/fox =A fox: 1 images" in said
    assert "due: 0.02 EUR" in said


def test_ledger_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(OSError, match="there is no ledger"):
        run("credit", "report", "--memory", tmp_path / "memory.db")
    assert list(tmp_path.iterdir()) == []
