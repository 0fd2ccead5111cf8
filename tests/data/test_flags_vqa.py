import collections
import re

from mmjax.data.builders import flags_vqa


def state(i, languages, borders):
    """State i of continent i modulo 2."""
    facts = {"name": f"State {i}", "capital": f"City {i}", "continent": "AB"[i % 2], "region": f"Region {i % 3}"}
    lists = {"languages": ", ".join(languages), "borders": ", ".join(borders)}
    return {**facts, **lists, "image": b"", "text_zh": f"国{i}", "group": i, "code": f"S{i}"}


STATES = [
    state(0, ["Alpha", "Beta"], ["State 1", "State 2"]),
    state(1, ["Alpha"], ["State 0"]),
    state(2, ["Beta"], ["State 0"]),
    state(3, ["Gamma"], []),
]


def test_answers_are_the_facts():
    rows = list(flags_vqa.rows(STATES, known=True))
    assert collections.Counter(row["type"] for row in rows) == {
        **dict.fromkeys(("state", "capital", "continent", "region"), 4),
        **dict.fromkeys(("language", "border"), 8),
    }
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        facts, (answer,) = STATES[row["group"]], row["answers"]
        if row["type"] in ("language", "border"):
            name = re.search(r"Is (.+) an official|border (.+)\?", row["question"])
            field = "languages" if row["type"] == "language" else "borders"
            assert answer == ("yes" if (name[1] or name[2]) in facts[field].split(", ") else "no")
            assert name[2] != facts["name"]
        else:
            assert answer == facts[{"state": "name"}.get(row["type"], row["type"])]


def test_yes_and_no_are_level_where_there_are_neighbours():
    rows = [row for row in flags_vqa.rows(STATES, known=True) if row["type"] == "language"]
    assert collections.Counter(row["answers"][0] for row in rows) == {"yes": 4, "no": 4}


def test_of_unknown_states_only_what_flags_share_is_asked():
    rows = list(flags_vqa.rows(STATES[:1], known=False))
    assert {row["type"] for row in rows} == {"continent", "region", "language", "border"}
