"""Claims hold or say why not, and are recorded."""

import json

import pytest

from course_lib.learn.claims import ClaimFailed, claim, claim_order


def test_a_claim_that_holds_is_printed_and_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_CLAIMS", str(tmp_path / "claims.jsonl"))
    claim("accuracy", 91.2, about=90, within=5, unit="%")
    claim_order("bigger is better", 0.9, ">", 0.7)
    rows = [json.loads(line) for line in (tmp_path / "claims.jsonl").read_text().splitlines()]
    assert [r["name"] for r in rows] == ["accuracy", "bigger is better"]
    assert rows[0]["value"] == 91.2 and rows[0]["unit"] == "%"
    assert "91.2 %" in capsys.readouterr().out


@pytest.mark.parametrize("value", [80.0, 100.1, float("nan")])
def test_a_claim_that_does_not_hold_names_both_numbers(value):
    with pytest.raises(ClaimFailed, match="says about 90"):
        claim("accuracy", value, about=90, within=5)


def test_an_ordering_that_does_not_hold_fails():
    with pytest.raises(ClaimFailed, match=r"0\.5 > 0\.7"):
        claim_order("bigger is better", 0.5, ">", 0.7)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="positive"):
        claim("x", 1, about=1, within=0)
    with pytest.raises(ValueError, match="relation"):
        claim_order("x", 1, "=", 1)


def test_in_another_tier_the_numbers_of_the_text_are_shown_and_not_asserted(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_TIER", "laptop")
    claim("weights", 494.0, about=4.5, within=0.05, unit="million")
    claim_order("bigger is better", 0.5, ">", 0.7)
    said = capsys.readouterr().out
    assert "weights: 494 million here; 4.5 million in tier tiny" in said and "does not hold here" in said


def test_a_claim_may_have_a_number_for_each_tier(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COURSE_CLAIMS", str(tmp_path / "claims.jsonl"))
    about = {"tiny": 4.5, "real": 134.5}
    claim("weights", 4.46, about=about, within=0.05)
    monkeypatch.setenv("COURSE_TIER", "real")
    claim("weights", 134.52, about=about, within=0.05)
    with pytest.raises(ClaimFailed, match=r"is expected in tier real about 134\.5"):
        claim("weights", 4.46, about=about, within=0.05)
    with pytest.raises(ClaimFailed, match="the text says about 16"):
        claim("size of another model", 17, about=16, within=0.1)
    monkeypatch.setenv("COURSE_TIER", "laptop")
    claim("weights", 494, about=about, within=0.05)
    assert "494 here; 4.5 in tier tiny" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "claims.jsonl").read_text().splitlines()]
    assert [row["in_text"] for row in rows] == [True, False]


def test_a_comparison_may_be_claimed_for_one_tier_only(monkeypatch, capsys):
    with pytest.raises(ClaimFailed):
        claim_order("bigger is better", 0.5, ">", 0.7, tiers=["tiny"])
    monkeypatch.setenv("COURSE_TIER", "real")
    claim_order("bigger is better", 0.5, ">", 0.7, tiers=["tiny"])
    assert "does not hold here" in capsys.readouterr().out
    with pytest.raises(ClaimFailed):
        claim_order("bigger is better", 0.5, ">", 0.7)
