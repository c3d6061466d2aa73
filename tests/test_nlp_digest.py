"""What many reviews say together: shares, drivers, quotes and turns with known answers."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import UserError
from nlp.digest import aspect_drivers, digest, positive_share, turned
from nlp.metrics import wilson
from nlp.quotes import LONGEST, SHORTEST, quotes

ASPECTS = ["story", "acting", "direction", "pacing", "humour", "script", "ending", "sound", "visuals", "characters"]


def frame(p, start="2024-01-01", days=None, item="1", **columns):
    """Reviews with the given p(positive), one a day unless `days` says otherwise."""
    p = np.asarray(p, dtype=float)
    days = np.arange(len(p)) if days is None else np.asarray(days)
    label = np.where(p > 0.6, "positive", np.where(p < 0.4, "negative", "neutral"))
    made = {
        "review_id": [f"r{i}" for i in range(len(p))],
        "text": [""] * len(p),
        "label": label,
        "p_positive": p,
        "aspects": [[] for _ in p],
        "item_id": item,
        "created_at": pd.Timestamp(start, tz="UTC") + pd.to_timedelta(days, unit="D"),
    }
    return pd.DataFrame(made | columns)


def mention(aspect, p, start=0, end=0):
    return {"aspect": aspect, "p_positive": p, "start": start, "end": end}


# Shares


def test_intervals_are_those_of_wilson_by_hand():
    # z² = 3.84146. 0 of 10: z²/n / (1 + z²/n) = 0.384146 / 1.384146. 5 of 5: 1 / (1 + z²/5) below.
    low, high = wilson(np.array([0, 5, 81, 0]), np.array([10, 5, 263, 0]))
    assert low == pytest.approx([0, 1 / (1 + 3.84146 / 5), 0.2553, 0], abs=1e-4)  # 81 of 263: Newcombe 1998
    assert high == pytest.approx([0.384146 / 1.384146, 1, 0.3662, 1], abs=1e-4)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_intervals_hold_their_share_and_lie_in_bounds(n, share):
    low, high = wilson(np.array([share * n]), np.array([n]))
    assert 0 <= low[0] <= share + 1e-12
    assert share - 1e-12 <= high[0] <= 1
    assert low[0] < high[0]


def test_a_share_is_the_mean_of_p_and_a_neutral_review_counts_half():
    row = positive_share(frame([1, 1, 0.5, 0]), period="all").iloc[0]
    assert row["share"] == pytest.approx(2.5 / 4)
    assert (row["reviews"], row["negative"], row["neutral"], row["positive"]) == (4, 1, 1, 2)
    assert (row["low"], row["high"]) == tuple(v[0] for v in wilson(np.array([2.5]), np.array([4])))


@pytest.mark.parametrize(
    ("days", "period", "rows"),
    [(range(30), "day", 30), (range(0, 180, 3), "week", 26), (range(0, 200, 3), "month", 7),
     (range(0, 1400, 7), "month", 46),
     (range(0, 4000, 30), "quarter", 44), (range(0, 20_000, 300), "year", 55)],
)  # fmt: skip
def test_the_period_follows_the_span(days, period, rows):
    found = positive_share(frame(np.full(len(days), 0.8), days=list(days)))
    assert set(found["period"]) == {period}
    assert len(found) == rows
    assert found["reviews"].sum() == len(days)
    assert found["start"].is_monotonic_increasing


def test_periods_begin_where_the_calendar_says():
    reviews = frame([1, 0, 1], start="2024-05-15", days=[0, 1, 40])
    assert positive_share(reviews, period="month")["start"].dt.strftime("%F").tolist() == ["2024-05-01", "2024-06-01"]
    assert positive_share(reviews, period="week")["start"].dt.strftime("%F").tolist() == ["2024-05-13", "2024-06-24"]
    assert positive_share(reviews, period="month")["share"].tolist() == [0.5, 1]
    assert str(positive_share(reviews)["start"].dt.tz) == "UTC"


def test_without_times_there_is_one_row_over_all():
    reviews = frame([1, 0, 1], created_at=pd.Series([pd.NaT] * 3, dtype="datetime64[us, UTC]"), item=["a", "b", "b"])
    for undated in (reviews, reviews.drop(columns="created_at"), reviews.assign(created_at=None)):
        found = positive_share(undated, period="month")
        assert found["period"].tolist() == ["all"]
        assert found["start"].isna().all()
        assert found["reviews"].tolist() == [3]
    by = positive_share(reviews, by="item_id").set_index("item_id")
    assert by["share"].to_dict() == {"a": 1, "b": 0.5}


def test_rows_without_a_probability_title_or_time_are_left_out():
    reviews = frame([1, 0, 1, np.nan], item=["a", None, "b", "b"])
    reviews.loc[2, "created_at"] = pd.NaT
    assert positive_share(reviews)["reviews"].sum() == 2
    assert positive_share(reviews, period="all")["reviews"].tolist() == [3]
    assert positive_share(reviews, by="item_id", period="all")["item_id"].tolist() == ["a", "b"]
    assert positive_share(reviews.iloc[:0]).empty


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3000), st.sampled_from(["a", "b", None])), max_size=40))
@settings(max_examples=40, deadline=None)
def test_periods_share_out_the_reviews(rows):
    p, days, items = zip(*rows, strict=True) if rows else ((), (), ())
    reviews = frame(p, days=days, item=pd.Series(items, dtype=object))
    found = positive_share(reviews)
    assert found["reviews"].sum() == len(rows)
    assert (found[["negative", "neutral", "positive"]].sum(axis=1) == found["reviews"]).all()
    assert (found["share"] * found["reviews"]).sum() == pytest.approx(sum(p))
    assert positive_share(reviews, by="item_id")["reviews"].sum() == sum(item is not None for item in items)


# Drivers


def driven(n, seed=0, noise=0.1):
    """p = 0.5 + 0.2 praise of acting - 0.3 blame of pacing + noise; story has no effect."""
    rng = np.random.default_rng(seed)
    aspects, p = [], np.full(n, 0.5)
    for i in range(n):
        said = []
        for name, chance, praise, blame in (
            ("acting", 0.4, 0.2, 0.0),
            ("pacing", 0.3, 0.0, -0.3),
            ("story", 0.5, 0, 0),
        ):
            if rng.random() < chance:
                good = rng.random() < 0.5
                said.append(mention(name, float(good)))
                p[i] += praise if good else blame
        aspects.append(said)
    return frame(np.clip(p + rng.normal(0, noise, n), 0, 1), aspects=aspects)


def test_known_effects_are_found_in_points():
    found = aspect_drivers(driven(4000)).set_index("aspect")
    assert found.loc["acting", "effect_praised"] == pytest.approx(20, abs=1.5)
    assert found.loc["pacing", "effect_blamed"] == pytest.approx(-30, abs=1.5)
    assert found.loc["acting", "effect_blamed"] == pytest.approx(0, abs=1.5)
    assert found.loc["pacing", "impact"] == pytest.approx(-30 * 0.15, abs=0.6)
    assert found.loc["acting", "impact"] == pytest.approx(20 * 0.2, abs=0.6)
    assert found.index.tolist() == ["pacing", "acting", "story"]
    assert found.loc["story", "impact_low"] < 0.2
    assert found.loc["story", "impact_high"] > -0.2


def test_intervals_hold_the_true_impact_as_often_as_they_say():
    held = []
    for seed in range(150):
        found = aspect_drivers(driven(300, seed, noise=0.2)).set_index("aspect")
        for name, true in (("pacing", -4.5), ("acting", 4.0), ("story", 0.0)):
            held.append(found.loc[name, "impact_low"] <= true <= found.loc[name, "impact_high"])
    assert 0.91 <= np.mean(held) <= 0.985


def test_impacts_and_the_rest_add_up_to_the_share():
    reviews = driven(400)
    found = digest(reviews)
    assert found["rest"] + sum(d["impact"] for d in found["drivers"]) == pytest.approx(
        100 * reviews["p_positive"].mean()
    )
    assert found["rest"] == pytest.approx(50, abs=4)


def test_counts_are_of_reviews_and_several_mentions_are_one():
    said = [[mention("story", 0.9), mention("story", 0.3)], [mention("story", 0.1)], None, []]
    row = aspect_drivers(frame([0.9, 0.1, 0.5, 0.5], aspects=said)).iloc[0]
    assert (row["aspect"], row["reviews"], row["praised"], row["blamed"]) == ("story", 2, 1, 1)
    assert row["share"] == pytest.approx((0.6 + 0.1) / 2)


def test_few_reviews_give_no_number():
    few = aspect_drivers(driven(25)).set_index("aspect")
    assert few["impact"].isna().all()
    assert few["impact_low"].isna().all()
    assert few["effect_praised"].isna().all()
    reviews = driven(400)
    reviews["aspects"] = [
        [*said, mention("sound", 0.0)] if i < 9 else said for i, said in enumerate(reviews["aspects"])
    ]
    found = aspect_drivers(reviews).set_index("aspect")
    assert np.isnan(found.loc["sound", "impact"])
    assert found.loc["sound", "reviews"] == 9
    assert found.drop("sound")["impact"].notna().all()


def test_a_small_title_takes_the_effects_of_the_service():
    effects = aspect_drivers(driven(4000))
    said = [[mention("pacing", 0.0)]] * 6 + [[mention("acting", 1.0)]] * 2 + [[]] * 12
    found = aspect_drivers(frame(np.full(20, 0.4), aspects=said), effects=effects).set_index("aspect")
    assert found.loc["pacing", "impact"] == pytest.approx(-30 * 6 / 20, abs=0.5)
    assert found.loc["pacing", "against_service"] == pytest.approx(-9 + 4.5, abs=0.8)
    assert found.loc["pacing", "impact_low"] < found.loc["pacing", "impact"] < found.loc["pacing", "impact_high"] < 0
    assert np.isnan(found.loc["acting", "impact"])  # two reviews
    assert aspect_drivers(frame([0.4] * 4, aspects=said[:4]), effects=effects)["impact"].isna().all()


# Quotes

GOOD = "The acting is superb and the story moved me to tears."
BAD = "The pacing is dreadful and the story goes nowhere at all."


def reviewed(*rows):
    """Rows of text, p of the review, and sentences in it with aspect and p."""
    aspects = [
        [mention(name, p, text.index(said), text.index(said) + len(said)) for said, name, p in spans]
        for text, _, spans in rows
    ]
    return frame([p for _, p, _ in rows], text=[text for text, _, _ in rows], aspects=aspects)


def test_a_quote_is_the_sentence_and_says_where_it_stands():
    text = f"I saw it twice. {GOOD} Go and see it."
    found = quotes(reviewed((text, 0.95, [(GOOD, "acting", 0.97)])))
    row = found.iloc[0]
    assert (row["side"], row["review_id"], row["text"], row["aspect"]) == ("for", "r0", GOOD, "acting")
    assert text[row["start"] : row["end"]] == GOOD
    assert len(found) == 1


def test_a_quote_agrees_with_its_review_and_is_clear():
    rows = [(f"Hm. {GOOD}", 0.2, [(GOOD, "acting", 0.95)]), (f"Hm. {BAD}", 0.1, [(BAD, "pacing", 0.4)])]
    assert quotes(reviewed(*rows)).empty
    rows += [(f"Hm. {BAD}", 0.1, [(BAD, "pacing", 0.05)])]
    assert quotes(reviewed(*rows))["review_id"].tolist() == ["r2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A start. Superb acting.", "Superb acting."),  # short
        ("A start. " + "The acting is superb and so on and on " * 7 + ".", "The acting is superb and so on and on " * 7 + "."),  # noqa: E501
        ("A start. The acting is <i>superb</i> and moved me to tears.", "The acting is <i>superb</i> and moved me to tears."),  # noqa: E501
        ("A start. See http://x.org for the superb acting that I saw.", "See http://x.org for the superb acting that I saw."),  # noqa: E501
        (GOOD + " Go.", GOOD[4:]),  # begins within its sentence
        (GOOD.replace("The a", "The A") + " Go.", GOOD.replace("The a", "The A")[4:]),  # so, with a capital
        ("Made by Mr. who? " + GOOD[4:], GOOD[4:]),  # without one, after what looks like an end
        (f"But {GOOD}", f"But {GOOD}"),  # leans on what is not there
        (f"Well. ({GOOD}", f"({GOOD}"),
        (GOOD + " Go.", GOOD[:-6]),  # ends within it
    ],
)  # fmt: skip
def test_what_is_unreadable_or_in_pieces_is_not_quoted(text, said):
    assert quotes(reviewed((text, 0.95, [(said, "acting", 0.97)]))).empty


def test_a_sentence_after_a_line_break_tag_is_whole():
    text = f"No full stop before<br /><br />{GOOD}<br />Go."
    assert quotes(reviewed((text, 0.95, [(GOOD, "acting", 0.97)])))["text"].tolist() == [GOOD]


def test_a_review_of_one_sentence_can_be_quoted_without_an_aspect():
    text = "a moving and gently funny portrait of two old friends ."
    found = quotes(reviewed((text, 0.95, []), (f"{GOOD} {GOOD}", 0.95, [])))
    assert found["text"].tolist() == [text]
    assert found["aspect"].isna().all()


def test_quotes_do_not_repeat_and_come_from_different_reviews():
    other = "The cast gives wonderful performances from the first scene to the last."
    rows = [(f"{GOOD} {other}", 0.95, [(GOOD, "acting", 0.97), (other, "acting", 0.97)])]
    rows += [
        (f"Well. {GOOD.upper() if i % 2 else GOOD}", 0.95, [(GOOD, "acting", 0.97)] if not i % 2 else [])
        for i in range(6)
    ]
    rows += [(f"Well. {other}", 0.95, [(other, "acting", 0.97)])]
    found = quotes(reviewed(*rows), n=5)
    assert found["text"].str.lower().is_unique
    assert found["review_id"].is_unique
    assert set(found["text"]) == {GOOD, other}
    assert len(quotes(reviewed(*rows).assign(user_id="u"), n=5)) == 1


def test_a_quote_says_what_many_say():
    rng = np.random.default_rng(0)
    places = ["harbour", "desert", "village", "palace", "forest", "station", "factory", "island"]
    rows = []
    for i in range(24):
        said = f"The acting is superb in the scene at the {places[i % 8]} with {'abcdefghijklmnopqrstuvwx'[i] * 5}."
        rows.append((f"Well. {said}", 0.95, [(said, "acting", 0.97)]))
    odd = "My cousin bought popcorn, lemonade, ice cream and chocolate afterwards."
    rows.insert(int(rng.integers(24)), (f"Well. {odd}", 0.95, [(odd, "sound", 0.97)]))
    assert quotes(reviewed(*rows), n=2)["text"].str.contains("acting").all()


def test_one_review_is_quoted_once():
    other = "A wonderful cast gives its best from the first scene to the last."
    row = (f"{GOOD} {other}", 0.95, [(GOOD, "acting", 0.97), (other, "story", 0.97)])
    assert len(quotes(reviewed(row), n=5)) == 1


def test_of_equal_sentences_that_of_the_most_named_aspect_or_the_surest_link_is_quoted():
    sentences = [f"{letter * 6} is superb in all that {letter * 7} does here." for letter in "ABCDEF"]
    rows = [(f"Well. {said}", 0.95, [(said, "story", 0.97)]) for said in sentences]
    for odd in range(6):
        reviews = reviewed(*rows)
        reviews["aspects"] = [
            [{**said[0], "aspect": "acting" if i == odd else "story"}] for i, said in enumerate(reviews["aspects"])
        ]
        assert quotes(reviews, n=1)["review_id"].tolist() != [f"r{odd}"]
        sure = reviewed(*rows).assign(link_confidence=[1.0 if i == odd else 0.9 for i in range(6)])
        assert quotes(sure, n=1)["review_id"].tolist() == [f"r{odd}"]


def test_quotes_do_not_depend_on_the_order_of_rows():
    rows = [(f"Well. {GOOD[:-1]}, {i} times.", 0.95, [(f"{GOOD[:-1]}, {i} times.", "acting", 0.9)]) for i in range(40)]
    reviews = reviewed(*rows)
    mixed = reviews.sample(frac=1, random_state=0)
    assert quotes(reviews)["review_id"].tolist() == quotes(mixed)["review_id"].tolist()


@given(
    st.lists(st.tuples(st.text(max_size=300), st.floats(0, 1), st.integers(-5, 300), st.integers(-5, 300)), max_size=8)
)
@settings(max_examples=60, deadline=None)
def test_any_text_and_any_span_is_survived(rows):
    reviews = frame(
        [p for _, p, _, _ in rows],
        text=[text for text, *_ in rows],
        aspects=[[mention("story", p, start, end)] for _, p, start, end in rows],
    )
    found = quotes(reviews)
    assert len(found) <= 4
    assert found["text"].str.len().between(SHORTEST, LONGEST).all()
    for _, row in found.iterrows():
        assert rows[int(row["review_id"][1:])][0][row["start"] : row["end"]] == row["text"]


# Turns


def streams(n_titles, n, share, rng):
    """Titles of `n` reviews each, whose reviews are positive with probability share(position / n)."""
    p = (rng.random((n_titles, n)) < share(np.arange(n) / n)).astype(float) * 0.9 + 0.05
    items = np.repeat([f"t{i}" for i in range(n_titles)], n)
    return frame(p.ravel(), days=np.tile(np.arange(n), n_titles), item=items)


def test_a_known_turn_is_found_with_its_time_and_size():
    rng = np.random.default_rng(1)
    steady = streams(200, 60, lambda t: np.full_like(t, 0.8), rng)
    sour = streams(1, 120, lambda t: np.where(t < 0.5, 0.9, 0.3), rng).assign(item_id="sour")
    better = streams(1, 120, lambda t: np.where(t < 0.75, 0.2, 0.9), rng).assign(item_id="better")
    found = turned(pd.concat([steady, sour, better], ignore_index=True).sample(frac=1, random_state=0)).set_index(
        "item_id"
    )
    assert set(found.index) == {"sour", "better"}
    assert found.loc["sour", "direction"] == "down"
    assert found.loc["better", "direction"] == "up"
    assert abs((found.loc["sour", "since"] - pd.Timestamp("2024-01-01", tz="UTC")).days - 60) <= 5
    assert abs((found.loc["better", "since"] - pd.Timestamp("2024-01-01", tz="UTC")).days - 90) <= 5
    assert found.loc["sour", "change_points"] == pytest.approx(-54, abs=15)
    assert (found["reviews_before"] + found["reviews_after"] == 120).all()
    assert (found["q"] >= found["p"]).all()


def test_p_is_that_of_fisher_by_hand():
    # One possible cut; all eight before and none of eight after: 1 of the C(16, 8) = 12,870 ways, and its mirror.
    row = turned(frame([0.9] * 8 + [0.1] * 8)).iloc[0]
    assert row["p"] == pytest.approx(2 / 12_870)
    assert row["q"] == row["p"]


def test_the_shares_are_of_the_reviews_before_and_after():
    reviews = frame([0.9] * 30 + [0.2] * 20)
    row = turned(reviews).iloc[0]
    assert (row["before"], row["after"]) == (pytest.approx(0.9), pytest.approx(0.2))
    assert (row["reviews_before"], row["reviews_after"]) == (30, 20)
    assert row["since"] == reviews["created_at"][30]
    assert row["change_points"] == pytest.approx(-70)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_titles_without_a_turn_are_seldom_said_to_have_turned(share):
    rng = np.random.default_rng(0)
    wrong = [len(turned(streams(500, 50, lambda t: np.full_like(t, share), rng), least_points=0)) for _ in range(30)]
    assert np.mean(np.array(wrong) > 0) <= 0.05 + 0.08


def test_p_is_no_smaller_than_chance_allows():
    rng = np.random.default_rng(3)
    reviews = streams(1500, 40, lambda t: np.full_like(t, 0.85), rng)
    # With a bound of 0.999 on false discoveries p comes back for every title with any evidence at all.
    p = turned(reviews, false_discovery=0.999999, least_points=0)["p"]
    assert (p <= 0.05).sum() / 1500 <= 0.05
    assert (p <= 0.01).sum() / 1500 <= 0.01


def test_reviews_of_one_time_are_never_parted():
    days = [0] * 25 + [1] * 25
    reviews = frame([0.9] * 20 + [0.1] * 30, days=days)
    row = turned(reviews).iloc[0]
    assert (row["reviews_before"], row["reviews_after"]) == (25, 25)
    assert turned(frame([0.9] * 20 + [0.1] * 30, days=[0] * 50)).empty


def test_the_clock_and_the_window_limit_what_counts():
    reviews = frame([0.9] * 40 + [0.1] * 40)
    assert turned(reviews, as_of=pd.Timestamp("2024-02-05")).empty
    assert len(turned(reviews, recent_days=60)) == 1
    assert turned(reviews.assign(p_positive=[0.9] * 20 + [0.1] * 60), recent_days=30).empty


def test_few_reviews_small_changes_and_no_times_give_no_turn():
    assert turned(frame([0.9] * 7 + [0.1] * 8)).empty
    assert len(turned(frame([0.9] * 8 + [0.1] * 8))) == 1
    assert turned(frame([0.55] * 300 + [0.48] * 300)).empty  # certain, but seven points
    reviews = frame([0.9] * 30 + [0.1] * 30)
    for undated in (reviews.drop(columns="created_at"), reviews.assign(created_at=pd.NaT), reviews.iloc[:0]):
        assert turned(undated).empty
        assert "since" in turned(undated)
    assert turned(reviews.assign(item_id=None)).empty


# All of it


def test_a_digest_of_the_service_and_of_a_title_is_json():
    rng = np.random.default_rng(0)
    reviews = generated(2000, 40, rng)
    reviews.loc[reviews["item_id"] == "3", "p_positive"] = 0.5
    days = (reviews["created_at"] - reviews["created_at"].min()).dt.days
    sour = (reviews["item_id"] == "3").to_numpy()
    reviews.loc[sour, "p_positive"] = np.where(days[sour] < days[sour].median(), 0.95, 0.05)
    names = {str(i): f"Film {i}" for i in range(40)}
    service = json.loads(json.dumps(digest(reviews, names), allow_nan=False))
    assert service["reviews"] == 2000
    assert service["item_id"] is None
    assert [(row["item_id"], row["title"], row["direction"]) for row in service["turned"]] == [("3", "Film 3", "down")]
    assert sum(row["reviews"] for row in service["over_time"]) == 2000
    assert service["period"] == "month"
    assert {len(service["quotes"][side]) for side in ("for", "against")} == {2}
    assert service["quotes"]["for"][0]["title"] == names[service["quotes"]["for"][0]["item_id"]]
    one = json.loads(json.dumps(digest(reviews, names, item_id="3", service=service), allow_nan=False))
    assert one["title"] == "Film 3"
    assert one["reviews"] == int(sour.sum())
    assert len(one["turned"]) == 1
    assert {row["item_id"] for side in one["quotes"].values() for row in side} <= {"3"}
    assert one == json.loads(json.dumps(digest(reviews, names, item_id="3")))
    assert digest(reviews, names, item_id="4", service=service)["turned"] == []


def test_a_digest_without_times_says_so_and_one_without_reviews_is_empty():
    reviews = frame([0.9, 0.1], created_at=None, item=pd.Series([None, "1"], dtype="string[pyarrow]"))
    found = digest(reviews)
    assert "no dates" in found["note"]
    assert len(found["over_time"]) == 1
    assert found["turned"] == []
    empty = digest(reviews, item_id="unknown")
    assert empty["reviews"] == 0
    assert empty["share"] is None
    assert empty["over_time"] == []
    assert empty["drivers"] == []
    assert json.dumps(empty, allow_nan=False)
    assert set(empty) == set(found)
    some = digest(frame([0.9, 0.1], created_at=[pd.Timestamp("2024-01-01", tz="UTC"), pd.NaT]))
    assert some["note"].startswith("1 of 2 reviews have no date")


def test_a_missing_column_is_named():
    for use in (positive_share, aspect_drivers, quotes, turned, digest):
        with pytest.raises(UserError, match="'p_positive'"):
            use(frame([0.5]).drop(columns="p_positive"))
    with pytest.raises(UserError, match="fortnight"):
        positive_share(frame([0.5]), period="fortnight")


def generated(n, n_titles, rng):
    """Reviews of four sentences over `n_titles`, each sentence of an aspect."""
    words = np.array(["".join(chr(97 + int(c)) for c in f"{i:04}") for i in range(3000)])
    p = np.where(rng.random(n) < 0.7, rng.uniform(0.85, 1, n), rng.uniform(0, 0.15, n))
    texts, aspects = [], []
    for i in range(n):
        text, said = "", []
        for _j in range(4):
            sentence = "The " + " ".join(rng.choice(words, 9)) + f" of {i}. "
            name = ASPECTS[int(rng.integers(len(ASPECTS)))]
            said.append(mention(name, float(p[i]), len(text), len(text) + len(sentence) - 1))
            text += sentence
        texts.append(text.strip())
        aspects.append(said)
    items = rng.integers(0, n_titles, n).astype(str).astype(object)
    return frame(p, days=rng.integers(0, 900, n), item=items, text=texts, aspects=aspects)


def test_a_digest_is_quick():
    reviews = generated(8000, 480, np.random.default_rng(0))
    started = time.process_time()
    service = digest(reviews)
    assert time.process_time() - started < 4  # measured: well under 1 s
    started = time.process_time()
    for item in range(10):
        digest(reviews, item_id=str(item), service=service)
    assert (time.process_time() - started) / 10 < 0.2
