"""A filter matches by one rule, whatever holds its values; what the rule does not know is refused by name."""

import unicodedata
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from course_lib.errors import CourseError
from course_lib.retrieval.filters import matching_ids

METADATA = {
    "a": {"year": 2020, "tags": ["food", "new"], "city": "서울", "day": date(2026, 1, 1)},
    "b": {"year": 2021, "tags": [], "city": "부산", "open": None},
    "c": {"year": 2022.0, "tags": ("new",), "city": "Jeju"},
}
DOCUMENTS = {key: Document(page_content="text", metadata=metadata) for key, metadata in METADATA.items()}


@pytest.mark.parametrize(
    "condition, ids",
    [
        ({}, "abc"),
        ({"year": 2020}, "a"),
        ({"year": 2022}, "c"),
        ({"tags": "new"}, "ac"),
        ({"tags": ["food", "other"]}, "a"),
        ({"tags": "new", "year": [2020, 2021]}, "a"),
        ({"year": []}, ""),
        ({"year": 1999}, ""),
        ({"city": ["서울", "Jeju"]}, "ac"),
        ({"open": None}, "b"),
        ({"day": date(2026, 1, 1)}, "a"),
        (lambda metadata: metadata["year"] > 2020, "bc"),
    ],
)
def test_a_field_must_have_the_value_or_one_of_several(condition, ids):
    assert matching_ids(DOCUMENTS, condition) == set(ids)


@given(st.lists(st.integers(2018, 2024)))
def test_values_may_be_in_any_iterable(years):
    expected = {key for key, metadata in METADATA.items() if metadata["year"] in years}
    for hold in (list, tuple, set, iter, np.array, dict.fromkeys, lambda years: (year for year in years)):
        values = hold(years)
        values = values.keys() if isinstance(values, dict) else values
        assert matching_ids(DOCUMENTS, {"year": values}) == expected


def test_ranges_numpy_numbers_and_arrays_in_metadata():
    assert matching_ids(DOCUMENTS, {"year": range(2020, 2022)}) == {"a", "b"}
    assert matching_ids(DOCUMENTS, {"year": np.int64(2020)}) == {"a"}
    documents = {
        "x": Document(page_content="", metadata={"tags": np.array(["p", "q"]), "ok": np.bool_(True)})
    }
    assert matching_ids(documents, {"tags": "q", "ok": True}) == {"x"}


@pytest.mark.parametrize("wanted", ["NFC", "NFD"])
@pytest.mark.parametrize("held", ["NFC", "NFD"])
def test_texts_and_fields_match_in_either_unicode_form(held, wanted):
    metadata = {unicodedata.normalize(held, "도시"): unicodedata.normalize(held, "서울")}
    condition = {unicodedata.normalize(wanted, "도시"): unicodedata.normalize(wanted, "서울")}
    assert matching_ids({"x": Document(page_content="", metadata=metadata)}, condition) == {"x"}


@pytest.mark.parametrize(
    "condition, message",
    [
        ({"year": {"$gte": 2021}}, r"(?s)operators.*Fix: filter=lambda metadata: metadata\[.year.\] >= 2021"),
        ({"year": {"$nin": [2020]}}, r"metadata\[.year.\] not in \[2020\]"),
        ({"$or": [{"year": 2020}]}, r"\$or is an operator"),
        (
            {"year": {2020: 1}},
            r"(?s)is a mapping.*Fix: filter=lambda metadata: metadata\[.year.\] == \{2020: 1\}",
        ),
        ({"year": {}}, r"metadata\[.year.\] == \{\}"),
        ({"year": {"$gte": 1, "$lt": 9}}, r"metadata\[.year.\] >= 1 and metadata\[.year.\] < 9"),
        ({"city": {"$regex": "^S"}}, r"Fix: filter=lambda metadata: your_test\(metadata\[.city.\]\)"),
        ({"year": "2020"}, r"(?s)of type str, which the field has in no.*Fix: filter=\{'year': 20"),
        ({"year": [2020, "2021"]}, "'2021' is of type str"),
        ({"city": 5}, "5 is of type int"),
        ({"tags": [["food"]]}, "of type list"),
        ({"colour": "red"}, "no document has the metadata field 'colour'"),
        ([("year", 2020)], "neither a mapping nor a function"),
        ("year == 2020", "neither a mapping nor a function"),
    ],
)
def test_what_the_rule_does_not_know_is_refused_by_name(condition, message):
    with pytest.raises(CourseError, match=message):
        matching_ids(DOCUMENTS, condition)


def test_the_call_of_a_refused_operator_acts():
    with pytest.raises(CourseError) as error:
        matching_ids(DOCUMENTS, {"year": {"$gte": 2021}})
    call = error.value.fix.removeprefix("filter=")
    assert matching_ids(DOCUMENTS, eval(call)) == {"b", "c"}
