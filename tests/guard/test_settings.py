"""Settings that cannot be followed are told in one line, with every place, and without what must not be shown."""

import pytest

from guardrail.errors import SettingsInvalid
from guardrail.settings import Settings


def told(tmp_path, text):
    path = tmp_path / "guardrail.toml"
    path.write_text(text)
    with pytest.raises(SettingsInvalid) as raised:
        Settings.from_file(path)
    said = str(raised.value)
    assert "\n" not in said
    assert "http" not in said
    assert said.startswith(f"the settings in {str(path)!r} cannot be used: ")
    return said.removeprefix(f"the settings in {str(path)!r} cannot be used: ").removesuffix("; correct them there")


def test_remedy_of_no_known_name_is_told_once(tmp_path):
    said = told(tmp_path, 'remedies = ["prey"]')
    assert said.startswith("remedies.0: found 'prey', expected 'fresh_seed', ")
    assert said.count("remedies") == 1  # not too short as well, because its only part was dropped


def test_list_that_is_merely_too_short_is_told(tmp_path):
    assert told(tmp_path, "remedies = []").startswith("remedies: found a list, expected at least 1 item")


def test_every_wrong_setting_has_its_clause(tmp_path):
    text = 'neighbours = 0\nbatch = "many"\n[signs.update_norm]\nenabled = "perhaps"\n'
    clauses = told(tmp_path, text).split("; ")
    assert [one.partition(":")[0] for one in clauses] == ["neighbours", "batch", "signs.update_norm.enabled"]
    assert clauses[0] == "neighbours: found 0, expected greater than or equal to 1"
    assert clauses[1].startswith("batch: found 'many', expected a valid integer")


def test_setting_that_is_not_there_is_named_and_its_value_is_not_shown(tmp_path):
    said = told(tmp_path, 'memori = "postgresql://user:hush@host/db"')
    assert said.startswith("memori: found a setting of this name, expected one that there is")
    assert "hush" not in said


def test_address_that_may_hold_a_password_is_not_shown(tmp_path):
    assert told(tmp_path, 'on_flag = "https://user:hush@host"') == (
        "on_flag: found a text of 22 letters, expected 'hold' or 'return'"
    )


def test_rule_that_is_refused_says_why(tmp_path):
    rule = '[[policy.rules]]\nname = "r"\nevidence = "check_failed"\ndecision = "accept"\n'
    assert told(tmp_path, rule) == "policy: a rule accepts images that could not be checked; use flag or block"
    assert told(tmp_path, "[policy]\nname = 'none'") == "policy.rules: found none, expected one"


def test_environment_is_told_the_same_way(monkeypatch):
    monkeypatch.setenv("GUARDRAIL_NEIGHBOURS", "0")
    with pytest.raises(SettingsInvalid, match=r"neighbours: found '0', expected greater than or equal to 1; correct"):
        Settings.load()


def test_file_that_is_no_toml_is_told_in_one_line(tmp_path):
    assert told(tmp_path, "index = ").startswith("Invalid value")
