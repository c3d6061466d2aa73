"""Linking: small catalogues and made reviews whose title is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp.linking import THRESHOLD, TitleLinker, evaluate_links
from nlp.title_blocks import in_question, name_vectors, posterior, staying
from nlp.title_genres import GenreClues, genre_rows
from nlp.title_groups import TitleGroups
from nlp.title_lone import judge_lone
from nlp.title_mentions import describe, find_forms, longer_forms, summarise
from nlp.title_names import forms_of, words_of
from nlp.title_words import marked_phrases, read_words

ITEMS = pd.DataFrame(
    [
        ("1", "Silent Harbour, The", 1994),
        ("2", "Crimson Orchard", 1988),
        ("3", "Crimson Orchard 2", 1990),
        ("4", "Hamlet", 1948),
        ("5", "Hamlet", 1996),
        ("6", "Big", 1988),
        ("7", "M", 1931),
        ("8", "8 1/2", 1963),
        ("9", "187", 1997),
        ("10", "Winter Kingdom: The Long Road (Royaume d'hiver, Le)", 1979),
    ],
    columns=["item_id", "title", "year"],
)
CAST = "Brannigan and Delacroix chase Oxenholme through Marblethorpe."
FILLER = [f"A film about Person{i} who meets Other{i} in a town called Place{i}, and it bored me." for i in range(60)]


def about(name: str, cast: str = CAST) -> list[str]:
    """A block of reviews about a title, some of which do not name it."""
    return [
        f'"{name}" is a wonderful film. {cast} I saw {name} twice, and {name} is the best of its year.',
        f"I liked every minute. {cast} Go and see it.",
        f"{name} is a gem. {cast} What a film {name} is!",
        f'{cast} The film "{name}" takes its time, but "{name}" has heart.',
        f"I watched {name} with my family. {cast} {name} was a joy.",
        f"{name} tells a simple story. {cast}",
    ]


def link(texts: list[str], items: pd.DataFrame = ITEMS, **columns: object) -> pd.DataFrame:
    return TitleLinker(items, threshold=0.5).link(pd.DataFrame({"text": texts, **columns}))


def mentions(title: str, text: str) -> pd.DataFrame:
    words = read_words([text])
    return describe(words, find_forms(words, list(forms_of(title))))


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("Matrix, The (1999)", "I saw The Matrix today"),
        ("Matrix, The (1999)", "the “Matrix” again"),
        ("Convent, The (Convento, O)", "seen as O Convento in Lisbon"),
        ("Twelve Monkeys (a.k.a. Army of Monkeys)", "call it 12 Monkeys"),
        ("Godfather: Part II, The", "The Godfather 2 is better"),
        ("Bloodsport 2", "Bloodsport Part Two"),
        ("Bloodsport 2", "BLOODSPORT II"),
        ("Amos & Andrew", "Amos and Andrew"),
        ("L.A. Confidential", "LA Confidential"),
        ("Ben-Hur", "Ben Hur, of course"),
        ("Double vie de Véronique, La", "La double vie de Veronique"),
        ("Schindler's List", "Schindler’s List<br /><br />is long"),
        ("8 1/2", "Fellini's 8½"),
        ("Kids in the Hall: Brain Candy", "Brain Candy was fun"),
    ],
)
def test_a_title_is_found_in_its_forms(title: str, text: str) -> None:
    assert len(mentions(title, text)) == 1


def test_no_form_of_a_second_part_is_the_first() -> None:
    assert ("the", "godfather") not in forms_of("Godfather: Part II, The")


def test_an_ordinary_word_in_small_letters_is_no_mention() -> None:
    assert mentions("Big", "It was a big film about big people.").empty
    assert mentions("Big", 'I loved "Big" and its piano.')["quoted"].tolist() == [True]


def test_what_stands_around_a_mention() -> None:
    text = "I watched Heat twice. Heat is good. It is no better than Heat. The Miami Heat won. Then came Heat 2 (1995)."
    found = mentions("Heat", text)
    assert found["watched"].tolist() == [True, False, False, False, False]
    assert found["opening"].tolist() == [False, True, False, False, False]
    assert found["against"].tolist() == [False, False, True, False, False]
    assert found["extended"].tolist() == [False, False, False, True, True]
    assert mentions("Heat", 'Mann made "Heat" (1995).')["year"].tolist() == [1995]


def test_the_longer_title_wins_and_unknown_numbers_are_other_titles() -> None:
    words = read_words(["Crimson Orchard 2 and Crimson Orchard 3."])
    forms = [("crimson", "orchard"), ("crimson", "orchard", "2")]
    found = describe(words, find_forms(words, forms))
    assert found["form"].tolist() == [1, 0]
    assert ("crimson", "orchard", "3") in longer_forms(words, found, forms)


def test_phrases_in_quotes_or_capitals_are_marked() -> None:
    phrases = marked_phrases(read_words(['He made "Slaughter High" and WINTER KILLS, but "ordinary" FBI work is not.']))
    assert phrases == {("slaughter", "high"), ("winter", "kills")}


def test_mentions_are_counted_by_text_and_form() -> None:
    words = read_words(['"Heat" is good. So is Heat!', "nothing", "like Heat"])
    table = summarise(describe(words, find_forms(words, [("heat",)])), 1)
    assert table["text"].tolist() == [0, 2]
    assert table["good"].tolist() == [2, 1]
    assert table["quoted"].tolist() == [1, 0]
    assert table["free"].tolist() == [2, 0]
    assert table["islands"].tolist() == [1, 1]


def test_neighbours_with_common_names_stay_others_jump() -> None:
    words = read_words(about("Silent Harbour")[:3] + FILLER)
    stays = staying(name_vectors(words, 63), np.zeros(63, int))
    assert stays[0] == 0
    assert min(stays[1:3]) > 0.8 > 0.5 > stays[5:].max()


def test_the_chain_has_the_posterior_of_all_paths() -> None:
    # Two texts, one state and the rest: four paths, summed by hand.
    codes = in_question(np.array([0]), np.array([0]), 1, np.zeros(2, int), 1)
    evidence, stays = np.log([3.0, 0.5]), np.array([0.0, 0.7])
    got = posterior(codes, 1, evidence, np.array([0.2, 0.2]), 0.8, stays)
    step = {("s", "s"): 0.7 + 0.3 * 0.2, ("s", "r"): 0.3 * 0.8, ("r", "s"): 0.3 * 0.2, ("r", "r"): 0.7 + 0.3 * 0.8}
    start, emit = {"s": 0.2, "r": 0.8}, [{"s": 3.0, "r": 1.0}, {"s": 0.5, "r": 1.0}]
    path = {(a, b): start[a] * emit[0][a] * step[a, b] * emit[1][b] for a in "sr" for b in "sr"}
    total = sum(path.values())
    assert got == pytest.approx([(path["s", "s"] + path["s", "r"]) / total, (path["s", "s"] + path["r", "s"]) / total])


def test_a_block_is_linked_with_those_that_do_not_name_the_title() -> None:
    links = link(FILLER[:30] + about("The Silent Harbour") + FILLER[30:])
    assert links["item_id"][30:36].tolist() == ["1"] * 6
    assert links["item_id"].drop(range(30, 36)).isna().all()
    assert (links["link_confidence"][30:36] > 0.5).all()


def test_alternative_titles_link_too() -> None:
    assert link(about("Le Royaume d'hiver") + FILLER)["item_id"][:6].tolist() == ["10"] * 6


def test_reviews_of_a_title_outside_the_catalogue_stay_unlinked() -> None:
    other = [text.replace("I saw", "Unlike Crimson Orchard, I saw") for text in about("Meadow of Glass")]
    assert link(FILLER[:30] + other + FILLER[30:])["item_id"].isna().all()


def test_comparisons_do_not_link() -> None:
    texts = [f"{CAST} It is much like Crimson Orchard, but worse than Crimson Orchard." for _ in range(6)]
    assert link(FILLER[:30] + texts + FILLER[30:])["item_id"].isna().all()


@pytest.mark.parametrize(("name", "item"), [("Crimson Orchard 2", "3"), ("Crimson Orchard 3", None)])
def test_a_number_behind_the_title_is_another_title(name: str, item: str | None) -> None:
    found = link(FILLER[:30] + about(name) + FILLER[30:])["item_id"][30:36]
    assert found.tolist() == [item] * 6


def test_years_decide_between_titles_of_one_name() -> None:
    texts = [f"{text} Made in 1996." for text in about("Hamlet")]
    years = TitleLinker(ITEMS, threshold=0.0).link(pd.DataFrame({"text": texts + FILLER}))
    assert years["item_id"][:6].tolist() == ["5"] * 6
    undecided = TitleLinker(ITEMS, threshold=0.0).link(pd.DataFrame({"text": about("Hamlet") + FILLER}))
    assert (undecided["link_confidence"][:6] <= 0.5).all()


def test_a_year_that_the_catalogue_contradicts_speaks_against() -> None:
    def sure(year: int) -> float:
        texts = [text.replace("is a", f"({year}) is a") for text in about("Silent Harbour")]
        return float(link(texts + FILLER)["link_confidence"][:6].fillna(0).max())

    assert sure(1994) > sure(1961) + 0.1


def test_a_character_of_that_name_is_no_title() -> None:
    texts = [f"Hamlet's friend met Hamlet (Tom Reed) at home. {CAST} Later Hamlet's house burned." for _ in range(6)]
    items = ITEMS[ITEMS["item_id"] == "5"]
    assert link(FILLER[:30] + texts + FILLER[30:], items)["item_id"].isna().all()


def test_ids_are_kept_and_help_their_neighbours() -> None:
    texts = [f"Just fine. {CAST}" for _ in range(5)] + FILLER
    given_ids = ["1", "1", None, "1", None, *[None] * (len(FILLER) - 1), "elsewhere"]
    links = link(texts, item_id=given_ids)
    assert links["item_id"][:5].tolist() == ["1"] * 5
    assert links["link_confidence"][[0, 1, 3, 64]].tolist() == [1.0] * 4
    assert links["item_id"].iloc[-1] == "elsewhere"
    assert links["item_id"][5:64].isna().all()


def test_known_ids_tell_titles_of_one_name_apart() -> None:
    links = link(about("Hamlet") + FILLER, item_id=["5", *[None] * (5 + len(FILLER))])
    assert links["item_id"][:6].tolist() == ["5"] * 6


def test_sources_are_chains_of_their_own_in_any_order() -> None:
    texts = [text for pair in zip(about("Silent Harbour"), FILLER[:6], strict=True) for text in pair] + FILLER[6:]
    sources = ["a", "b"] * 6 + ["b"] * len(FILLER[6:])
    links = link(texts, source=sources)
    assert links["item_id"][:12].tolist() == ["1", None] * 6


def test_the_threshold_only_hides() -> None:
    reviews = pd.DataFrame({"text": about("Silent Harbour") + FILLER}, index=range(100, 166))
    strict = TitleLinker(ITEMS, threshold=1.1, lone_threshold=1.1).link(reviews)
    assert strict.index.equals(reviews.index)
    assert strict["item_id"].isna().all()
    assert strict["link_confidence"][:6].notna().all()
    assert 0.5 < THRESHOLD < 1


@pytest.mark.parametrize(
    "text", ["", None, "   ", "x" * 100_000, "a\x00b \x01 M", "187", "8 1/2", "M", "=HYPERLINK(1)", "🎬🎬", "Фильм"]
)
def test_any_text_is_taken_alone(text: str | None) -> None:
    links = TitleLinker(ITEMS).link(pd.DataFrame({"text": [text]}))
    assert links["item_id"].tolist() == [None]


@pytest.mark.parametrize("items", [ITEMS.iloc[:0], ITEMS[["item_id", "title"]], ITEMS.assign(year=None, title="")])
def test_any_catalogue_is_taken(items: pd.DataFrame) -> None:
    assert len(link(about("Silent Harbour"), items)) == 6
    assert link([], items).columns.tolist() == ["item_id", "link_confidence"]


def test_a_catalogue_without_years_links() -> None:
    links = link(FILLER + about("Silent Harbour"), ITEMS[["item_id", "title"]])
    assert links["item_id"][60:].tolist() == ["1"] * 6


def test_titles_of_one_name_are_one_group() -> None:
    groups = TitleGroups(ITEMS)
    assert groups.n == 9
    assert groups.group_of_title[3] == groups.group_of_title[4]
    assert groups.years_of_groups[groups.group_of_title[3]] == 0
    assert groups.rows_of(np.array(["5", None, "?"], object)).tolist() == [4, -1, -2]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=6), st.lists(st.text(min_size=1, max_size=20), max_size=6))
def test_no_text_and_no_title_breaks_it(texts: list[str], titles: list[str]) -> None:
    items = pd.DataFrame({"item_id": [str(i) for i in range(len(titles))], "title": titles})
    links = TitleLinker(items, threshold=0.0).link(pd.DataFrame({"text": texts}, dtype=object))
    assert len(links) == len(texts)
    assert links["item_id"].dropna().isin(items["item_id"]).all()
    assert links["link_confidence"].dropna().between(0, 1).all()


def test_links_are_judged_against_labels() -> None:
    labels = pd.DataFrame({"review_id": list("abcd"), "item_id": ["1", "2", None, "3"]})
    links = pd.DataFrame({"review_id": list("abc"), "item_id": ["1", "9", None]})
    result = evaluate_links(labels, links)
    assert result["precision"] == 0.5
    assert result["recall"] == pytest.approx(1 / 3)
    assert result["precision_low"] < 0.5 < result["precision_high"]
    nothing = evaluate_links(labels, links.assign(item_id=None))
    assert np.isnan(nothing["precision"])
    assert nothing["recall"] == 0


def test_words_are_compared_without_accents_and_spelling_of_numbers() -> None:
    assert words_of("Véronique & Part III") == ("veronique", "and", "part", "3")


NAMES = [
    f"{a} {b}" for a in ("Silver", "Hollow", "Northern", "Paper", "Velvet") for b in ("Lanterns", "Orbit", "Canyon")
]
ALONE = pd.DataFrame({"item_id": [str(i) for i in range(len(NAMES))], "title": NAMES, "year": 1990})
SAID = [
    '"{}" is a small miracle, and the second half even better.',
    "I watched {} on a rainy evening and wept.",
    "Last week I saw {} with my sister, who slept.",
]


def lone(texts: list[str], items: pd.DataFrame = ALONE) -> pd.DataFrame:
    return TitleLinker(items).link(pd.DataFrame({"text": texts}))


def test_reviews_without_neighbours_link_by_what_they_say() -> None:
    order = np.random.default_rng(0).permutation(3 * len(NAMES))
    texts = [SAID[i // len(NAMES)].format(NAMES[i % len(NAMES)]) for i in order]
    found = lone(texts)
    assert (found["item_id"] == [str(i % len(NAMES)) for i in order]).mean() > 0.6
    assert found["item_id"].dropna().tolist() == [str(order[i] % len(NAMES)) for i in found["item_id"].dropna().index]
    for some in (texts, [f"I watched {NAMES[0]}."]):
        strict = TitleLinker(ALONE, lone_threshold=1.1).link(pd.DataFrame({"text": some}))
        assert strict["item_id"].isna().all()
    assert lone(["I watched Silver Lanterns."])["item_id"].tolist() == ["0"]


def test_a_likeness_and_another_year_are_no_link() -> None:
    texts = [SAID[0].format(name) for name in NAMES[:12]]
    texts += ["A road movie like Northern Orbit, only longer.", 'The old "Paper Canyon" (1955) is a classic.']
    found = lone(texts)["item_id"]
    assert found[:12].notna().sum() >= 10
    assert found[12:].isna().all()


def test_few_reviews_that_look_like_the_catalogue_among_many_are_namesakes() -> None:
    mentions = [SAID[0].format(name) for name in NAMES]
    assert lone(mentions)["item_id"].notna().mean() > 0.8
    strangers = [f"Somebody{i} goes to Sometown{i}, and nobody cares for a moment." for i in range(3_000)]
    many = pd.concat([ALONE, pd.DataFrame({"item_id": "x", "title": [f"Xyzzy{i} Foo{i}" for i in range(20_000)]})])
    assert lone([*mentions, *strangers], many)["item_id"].isna().all()


def test_the_share_of_true_mentions_is_each_titles_own() -> None:
    flat = dict.fromkeys(
        ("lead", "bound", "share", "place", "single", "quoted", "possessive", "match", "clash", "sequel"),
        0.0,
    )
    strong, weak = {"genre": 0.0, "verb": 2.0, "watched": 2.0}, {"genre": 0.0, "verb": -2.0, "watched": -2.0}
    middle = {"genre": 0.0, "verb": 0.0, "watched": 0.0}
    features = pd.DataFrame([{**flat, **f} for f in [strong] * 20 + [weak] * 20 + [middle] * 2])
    title = np.array([0] * 20 + [1] * 20 + [0, 1])
    p = judge_lone(features, np.arange(42), title, 42, 2)
    assert p[40] > p[41] + 0.3
    same = judge_lone(features.iloc[[0, 1, 2]], np.zeros(3, np.int64), np.arange(3), 3, 3)
    assert 0.9 < same.sum() <= 1


def test_genres_speak_for_and_against_a_title() -> None:
    texts = [
        "A scary slasher, all gore.",
        "The songs and the dancing are lovely.",
        "It was all right.",
        "A scary monster",
    ]
    clues = GenreClues(read_words(texts), len(texts))
    rows = genre_rows([["Horror"], ["musical"], None])
    odds = np.array([clues.odds(np.arange(3), np.tile(row, (3, 1))) for row in rows])
    assert odds[0, 0] > 0 > odds[0, 1]
    assert odds[1, 1] > 0 > odds[1, 0]
    assert (odds[2] == 0).all()


def test_a_block_about_a_namesake_of_another_genre_is_less_sure() -> None:
    texts = [f"{text} What a scary slasher, so much gore." for text in about("Crimson Orchard")] + FILLER
    sure = [
        TitleLinker(ITEMS.assign(genres=[[genre]] * len(ITEMS)), 0).link(pd.DataFrame({"text": texts}))
        for genre in ("Horror", "Musical")
    ]
    assert sure[0]["link_confidence"][:6].max() > sure[1]["link_confidence"][:6].max() + 0.02
