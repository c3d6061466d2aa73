"""Priorities: hand-computed, monotone in each of their parts, the same in chunks; and the reasons in words."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import UserError
from nlp.triage import complaint_counts, priorities, priority_reason

few = settings(max_examples=40, deadline=None)
AS_OF = pd.Timestamp("1998-04-22", tz="UTC")


def scored(*rows: dict[str, Any]) -> pd.DataFrame:
    usual = {"p_positive": 0.5, "aspects": [], "created_at": pd.NaT, "item_id": None}
    frame = pd.DataFrame([usual | row for row in rows], columns=list(usual))
    frame["created_at"] = pd.to_datetime(frame["created_at"], utc=True)
    return frame


def about(**aspects: float) -> list[dict[str, Any]]:
    return [{"aspect": name, "p_positive": p, "start": 0, "end": 1} for name, p in aspects.items()]


def one(**row: Any) -> float:
    return float(priorities(scored(row), AS_OF).iloc[0])


def test_by_hand() -> None:
    # Severity 0.9 · 1.8 / 2 = 0.81, aspect 0.6, 30 days are one half-life, one other: 1 / 6.
    row = {"p_positive": 0.1, "aspects": about(ending=0.2), "created_at": AS_OF - pd.Timedelta(days=30), "item_id": "7"}
    expected = (0.7 * 0.81 + 0.3 * 0.6) * (1 + 0.25 * 0.5 + 0.5 / 6) / 1.75
    assert priorities(scored(row, row), AS_OF).tolist() == pytest.approx([expected, expected])


def test_the_ends_of_the_range() -> None:
    assert one(p_positive=1.0) == 0
    worst = {"p_positive": 0.0, "aspects": about(ending=0.0), "created_at": AS_OF, "item_id": "7"}
    frame = scored(*[worst] * 400)
    assert 0.99 < priorities(frame, AS_OF).max() <= 1


def test_certainty_counts_on_the_negative_side_only() -> None:
    assert one(p_positive=0.9) == pytest.approx(0.7 * 0.1 / 2 / 1.5)
    assert one(p_positive=0.5) == pytest.approx(0.7 * 0.5 / 2 / 1.5)


def test_negative_before_undecided_before_positive() -> None:
    got = priorities(scored({"p_positive": 0.9}, {"p_positive": 0.02}, {"p_positive": 0.5}), None)
    assert got.rank().tolist() == [1, 3, 2]
    assert got.name == "priority"


probability = st.floats(0, 1)
ages = st.one_of(st.none(), st.floats(0, 4000))
names = st.sampled_from(["ending", "price", "acting"])
lists = st.dictionaries(names, probability, max_size=3).map(lambda found: about(**found))
rows = st.fixed_dictionaries(
    {
        "p_positive": probability,
        "aspects": lists,
        "created_at": ages.map(lambda days: pd.NaT if days is None else AS_OF - pd.Timedelta(days=days)),
        "item_id": st.sampled_from([None, "1", "2"]),
    }
)


@few
@given(table=st.lists(rows, min_size=1, max_size=8))
def test_priorities_lie_between_0_and_1_whatever_comes(table: list[dict[str, Any]]) -> None:
    got = priorities(scored(*table), AS_OF)
    assert got.between(0, 1).all()
    assert priority_reason(scored(*table), AS_OF).str.len().gt(0).all()


@few
@given(row=rows, lower=probability)
def test_more_negative_never_comes_later(row: dict[str, Any], lower: float) -> None:
    assert one(**row | {"p_positive": row["p_positive"] * lower}) >= one(**row) - 1e-12


@few
@given(row=rows, name=names, p=probability, lower=probability)
def test_more_negative_about_an_aspect_never_comes_later(
    row: dict[str, Any], name: str, p: float, lower: float
) -> None:
    rest = [found for found in row["aspects"] if found["aspect"] != name]
    before, after = row | {"aspects": rest + about(**{name: p})}, row | {"aspects": rest + about(**{name: p * lower})}
    others = [{"p_positive": 0.2, "aspects": about(ending=0.1), "item_id": "1"}] * 4
    first = [priorities(scored(one, *others), AS_OF).iloc[0] for one in (before, after)]
    assert first[1] >= first[0] - 1e-12


@few
@given(row=rows, days=st.floats(0, 3000), sooner=probability)
def test_more_recent_never_comes_later(row: dict[str, Any], days: float, sooner: float) -> None:
    old = row | {"created_at": AS_OF - pd.Timedelta(days=days)}
    new = row | {"created_at": AS_OF - pd.Timedelta(days=days * sooner)}
    assert one(**new) >= one(**old) - 1e-12


@few
@given(row=rows, n=st.integers(0, 20), more=st.integers(0, 20))
def test_more_others_never_come_later(row: dict[str, Any], n: int, more: int) -> None:
    same = {"p_positive": 0.2, "aspects": row["aspects"], "item_id": row["item_id"]}
    before = priorities(scored(row, *[same] * n), AS_OF).iloc[0]
    after = priorities(scored(row, *[same] * (n + more)), AS_OF).iloc[0]
    assert after >= before - 1e-12


@few
@given(table=st.lists(rows, min_size=2, max_size=8), cut=st.integers(1, 7), weight=st.floats(0, 5))
def test_in_chunks_as_at_once(table: list[dict[str, Any]], cut: int, weight: float) -> None:
    whole, weights, own = scored(*table), {"ending": weight}, ["price"]
    pieces = [whole.iloc[:cut], whole.iloc[cut:]]
    counts = complaint_counts(pieces[0], own).add(complaint_counts(pieces[1], own), fill_value=0)
    for function in (priorities, priority_reason):
        chunked = pd.concat([function(piece, AS_OF, weights, counts, own) for piece in pieces])
        pd.testing.assert_series_equal(chunked, function(whole, AS_OF, weights, None, own))


def test_an_unknown_time_has_no_effect() -> None:
    row = {"p_positive": 0.1, "aspects": about(ending=0.2)}
    plain = (0.7 * 0.81 + 0.3 * 0.6) / 1.5
    assert one(**row) == pytest.approx(plain)
    dated = scored(row | {"created_at": AS_OF})
    assert priorities(dated, None).iloc[0] == pytest.approx(plain)
    assert priorities(dated.drop(columns="created_at"), AS_OF).iloc[0] == pytest.approx(plain)


def test_age_counts_from_the_clock_that_is_given() -> None:
    row = {"p_positive": 0.1, "created_at": AS_OF}
    later = pd.Timestamp("1998-06-22")  # without a zone: UTC
    assert priorities(scored(row), later).iloc[0] < priorities(scored(row), AS_OF).iloc[0]
    future = scored(row | {"created_at": AS_OF + pd.Timedelta(days=9)})
    assert priorities(future, AS_OF).iloc[0] == priorities(scored(row), AS_OF).iloc[0]


def test_weights_are_relative() -> None:
    rows = [{"p_positive": 0.3, "aspects": about(price=0.1)}, {"p_positive": 0.3, "aspects": about(ending=0.1)}]
    frame = scored(*rows)
    assert priorities(frame, None).nunique() == 1
    got = priorities(frame, None, {"price": 3})
    assert got[0] > got[1]
    pd.testing.assert_series_equal(got, priorities(frame, None, {"price": 6, "ending": 2}))
    assert priority_reason(frame, None, {"ending": 0}).tolist() == ["Negative about the price", "Negative"]
    with pytest.raises(UserError, match="price"):
        priorities(frame, None, {"price": -1})


def test_an_aspect_without_weight_has_no_others() -> None:
    frame = scored(*[{"p_positive": 0.3, "aspects": about(ending=0.1), "item_id": "1"}] * 2)
    assert priority_reason(frame, None, {"ending": 0}).tolist() == ["Negative", "Negative"]


def test_others_share_title_and_aspect_and_count_once() -> None:
    twice = about(ending=0.1) + about(ending=0.3)
    frame = scored(
        {"p_positive": 0.05, "aspects": twice, "item_id": "1"},
        {"p_positive": 0.05, "aspects": twice, "item_id": "1"},
        {"p_positive": 0.05, "aspects": about(ending=0.1), "item_id": "2"},
        {"p_positive": 0.05, "aspects": about(acting=0.1), "item_id": "1"},
        {"p_positive": 0.05, "aspects": about(ending=0.9), "item_id": "1"},
        {"p_positive": 0.05, "aspects": about(ending=0.1)},
        {"p_positive": 0.05, "aspects": about(ending=0.1)},
    )
    others = priority_reason(frame, None).str.extract(r"(\d+) other")[0]
    assert others.fillna("0").astype(int).tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert complaint_counts(frame).to_dict() == {("1", "acting"): 1, ("1", "ending"): 2, ("2", "ending"): 1}


def test_a_service_aspect_is_counted_over_all_titles() -> None:
    frame = scored(*({"p_positive": 0.2, "aspects": about(price=0.1), "item_id": item} for item in ("1", "2", None)))
    assert not priority_reason(frame, None).str.contains("other").any()
    assert priority_reason(frame, None, service_aspects=["price"]).str.contains("2 others say the same").all()


def test_reasons_in_words() -> None:
    bad = {"p_positive": 0.05, "aspects": about(ending=0.05), "item_id": "1"}
    new = {"p_positive": 0.3, "aspects": about(pacing=0.1), "created_at": AS_OF - pd.Timedelta(days=3)}
    frame = scored(
        *[bad] * 15, new, {"p_positive": 0.9, "aspects": about(price=0.1)}, {"p_positive": 0.5}, {"p_positive": 0.99}
    )
    got = priority_reason(frame, AS_OF)
    assert got[0] == "Very negative about the ending; 14 others say the same"
    assert got[15] == "Negative about the pacing; written in the last week"
    assert got[16:].tolist() == ["Very positive, but not about the price", "Undecided", "Very positive"]


def test_the_reason_says_which_aspect_the_others_share() -> None:
    first = {"p_positive": 0.1, "aspects": about(ending=0.05, acting=0.2), "item_id": "1"}
    second = {"p_positive": 0.1, "aspects": about(acting=0.2), "item_id": "1"}
    got = priority_reason(scored(first, second), AS_OF)
    assert got[0] == "Very negative about the ending; 1 other says the same about the acting"
    assert got[1] == "Very negative about the acting; 1 other says the same"


def test_the_index_and_what_is_missing() -> None:
    frame = scored({"p_positive": None, "aspects": None}, {"p_positive": 0.2, "aspects": np.array(about(ending=0.1))})
    frame.index = pd.Index(["a", "a"])
    got = priorities(frame.drop(columns=["item_id", "created_at"]), AS_OF)
    assert got.index.tolist() == ["a", "a"]
    assert got.iloc[0] == one(p_positive=0.5)
    assert len(priorities(frame.iloc[:0], AS_OF)) == 0
    assert len(priority_reason(frame.iloc[:0], AS_OF)) == 0
    with pytest.raises(UserError, match="aspects"):
        priorities(frame.drop(columns="aspects"), AS_OF)
