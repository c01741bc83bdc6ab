"""A desk that has no keys to sign with serves all the same, and says at its start what that means."""

from guardrail.desk.desk_commands import _unsigned


def opened(desk):
    """What `open_guards` says is wrong, once it is through."""
    failures = []
    desk.open_guards(failures.append, _unsigned())
    desk._opener.join()
    return failures


def test_a_desk_without_keys_warns_once_and_opens_all_the_same(make_desk, tmp_path, capfd):
    desk = make_desk()
    desk.settings = desk.settings.model_copy(update={"keys": tmp_path / "no-keys"})
    assert opened(desk) == []
    assert [name for name, _ in desk.guards()] == ["default", "another"]
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("Warning: decisions are kept, but no image that people release leaves") == 1
    assert f"guardrail keys init --dir {tmp_path / 'no-keys'}" in said.err


def test_a_desk_with_keys_says_nothing(desk, capfd):
    assert opened(desk) == []
    assert "Warning" not in capfd.readouterr().err
