"""Texts of works: nothing that only machines see, on the page and over the API."""

import pytest
from api_samples import client_of, drawing, png

from guardrail.desk.web.problems import Problem
from guardrail.desk.web.work_texts import require_texts

TEXTS = ("bank", "work_id", "title", "creator", "rights_holder", "licence", "source")
IN_SCRIPTS = "Der Fuchs · 狐狸 · نمی\u200cدانم · 👩\u200d🎨"  # with joiners that these scripts need


@pytest.mark.parametrize("sign", ["\0", "\x07", "\x1b", "\n", "\x85", "\u2028", "\ud800"])
def test_control_characters_are_refused(sign):
    with pytest.raises(Problem, match=f"U\\+{ord(sign):04X}.*'title'"):
        require_texts({"title": f"a{sign}b"})


def test_titles_in_any_script_are_taken_but_names_have_only_what_can_be_seen():
    require_texts({"title": IN_SCRIPTS, "bank": "狐狸", "opted_out_at": None})
    with pytest.raises(Problem, match=r"U\+200C.*'bank'"):
        require_texts({"bank": IN_SCRIPTS})


@pytest.mark.parametrize("name", TEXTS)
def test_the_page_names_the_field_and_adds_nothing(desk, client_as, name):
    lead = client_as("lead")
    fields = {"work_id": "new", "bank": "animals", "title": "A new one", name: "a\0b"}
    answer = lead.post("/works", data=fields, files={"image": ("new.png", png(drawing(77)), "image/png")})
    assert answer.status_code == 422
    assert "U+0000" in answer.text
    assert f"in &#39;{name}&#39;" in answer.text
    assert desk.guard_for("default").index.header.works == 4


@pytest.mark.parametrize("name", TEXTS)
def test_the_api_names_the_field_and_adds_nothing(desk, name):
    client = client_of(desk, "works:write")
    fields = {"work_id": "new", "bank": "animals", name: "a\0b"}
    answer = client.post("/v1/works", data=fields, files=[("image", ("a.png", png(drawing(77))))])
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert f"U+0000, which cannot be printed, in '{name}'" in answer.json()["detail"]
    assert desk.guard_for("default").index.header.works == 4
