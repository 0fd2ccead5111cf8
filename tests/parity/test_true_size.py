"""What true_size.py has stored: a row for every family, of the map of today, and how near it came."""

import json

import pytest
from true_size import STORED, TOLERANCE, UNMEASURED, fingerprint

from mmjax.convert.families import FAMILIES

ROWS = json.loads(STORED.read_text())
ALL = {(family.name, family.format): family for family in FAMILIES}


def test_every_family_has_a_row():
    assert {(row["family"], row["format"]) for row in ROWS.values()} | UNMEASURED.keys() == ALL.keys()


@pytest.mark.parametrize("case", ROWS)
def test_a_row_is_of_the_map_of_today_and_near(case):
    row = ROWS[case]
    assert row["map"] == fingerprint(ALL[row["family"], row["format"]], row["model"]), "run true_size.py again"
    errors = row["errors"]
    for what in ("outputs", "loss", "gradients"):
        # Where fp32 itself is too coarse: not much farther from their float64 than their own fp32 is.
        coarse = 3 * errors["theirs_to_their_float64"][what]
        assert errors["ours_to_theirs"][what] < TOLERANCE or errors["ours_to_their_float64"][what] < coarse, what
