"""Reply drafts: grounded, fitting, varied, the same each time; and what a text generator may not write."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from data.errors import UserError
from nlp import replies
from nlp.replies import Facts, aspect_phrases, clean, compile_reply, draft_replies, facts_of, objection, pick_quote

PRAISE = (
    "The acting is wonderful and warm. The story held me from the first minute, and I was glad that I went to see it."
)
PAN = "The acting is awful and the story makes no sense. I was bored from the first minute and left before it was over."
ASPECTS = ["story", "acting", "direction", "characters", "visuals", "sound", "pacing", "humour", "script", "ending"]
SORRY = re.compile(r"\b(sorry|apolog|regret|pity)", re.IGNORECASE)
GLAD = re.compile(
    r"\b(glad|delight|pleased|pleasure|kind (words|review|remarks)|lovely|happy|won you over|thanks for the good)", re.I
)


def aspect(name: str, p: float, start: int = 0, end: int = 0) -> dict[str, Any]:
    return {"aspect": name, "p_positive": p, "start": start, "end": end}


def review(
    n: int = 0, text: str = PRAISE, label: str = "positive", p: float | None = None, **more: Any
) -> dict[str, Any]:
    p = {"positive": 0.97, "negative": 0.03, "neutral": 0.5}[label] if p is None else p
    row = {"review_id": f"r{n}", "text": text, "label": label, "p_positive": p, "aspects": [], "title": None}
    return row | {"link_confidence": 0.99} | more


def drafts(n: int = 60, tone: str = "warm", service_aspects: tuple[str, ...] = (), **more: Any) -> list[str]:
    frame = pd.DataFrame([review(i, **more) for i in range(n)])
    return draft_replies(frame, tone, service_aspects=service_aspects)


def said_aspects(text: str) -> set[str]:
    return {name for name in ASPECTS if any(phrase in text.lower() for phrase in aspect_phrases(name))}


@pytest.mark.parametrize("tone", replies.tones())
def test_praise_is_thanked_and_never_apologised_for(tone: str) -> None:
    for text in drafts(tone=tone, aspects=[aspect("acting", 0.95), aspect("story", 0.9)]):
        assert not SORRY.search(text)
        assert said_aspects(text) == {"acting", "story"}
    for text in drafts(tone=tone):
        assert not SORRY.search(text)
        assert not said_aspects(text)


@pytest.mark.parametrize("tone", replies.tones())
def test_a_pan_gets_an_apology_and_no_thanks_for_praise(tone: str) -> None:
    for found in ([aspect("acting", 0.05)], []):
        for text in drafts(tone=tone, text=PAN, label="negative", aspects=found):
            assert SORRY.search(text)
            assert not GLAD.search(text)
            assert said_aspects(text) == {one["aspect"] for one in found}


@pytest.mark.parametrize("tone", replies.tones())
@pytest.mark.parametrize("label", ["positive", "negative", "neutral"])
def test_a_mixed_review_gets_both(tone: str, label: str) -> None:
    for text in drafts(tone=tone, text=PAN, label=label, aspects=[aspect("humour", 0.97), aspect("pacing", 0.02)]):
        assert said_aspects(text) == {"humour", "pacing"}
        assert SORRY.search(text)


@pytest.mark.parametrize("tone", replies.tones())
def test_an_undecided_review_is_thanked_for_its_time_and_asked_nothing(tone: str) -> None:
    for text in drafts(tone=tone, label="neutral", aspects=[aspect("script", 0.5)]):
        assert "script" in text or "the writing" in text
        assert not SORRY.search(text)
        assert not GLAD.search(text)
        assert re.search(r"thank|appreciate", text, re.IGNORECASE)
        assert "?" not in text


def test_a_label_that_is_hardly_sure_counts_as_undecided() -> None:
    for text in drafts(label="negative", p=0.45):
        assert not SORRY.search(text)


def test_an_aspect_against_its_review_has_to_be_surer_than_one_that_agrees() -> None:
    assert facts_of("r", PRAISE, "positive", 0.97, [aspect("acting", 0.35)]).disliked == ()
    assert facts_of("r", PAN, "negative", 0.03, [aspect("acting", 0.35)]).disliked == ("acting",)


def test_mentions_of_one_aspect_count_together() -> None:
    both_ways = [aspect("acting", 0.95, 0, 5), aspect("acting", 0.05, 6, 9), aspect("story", 0.9, 10, 12)]
    assert facts_of("r", PRAISE, "positive", 0.97, both_ways).aspects == ("story",)


@pytest.mark.parametrize("tone", replies.tones())
def test_the_title_is_named_once_and_only_if_linked(tone: str) -> None:
    for text in drafts(tone=tone, title="Matrix, The (1999)", aspects=[aspect("acting", 0.9)]):
        assert text.count("The Matrix") <= 1
        assert "1999" not in text
        assert "Matrix, The" not in text
    named = [text for text in drafts(tone=tone, title="Matrix, The (1999)") if "The Matrix" in text]
    assert len(named) == 60
    assert not any("Matrix" in text for text in drafts(tone=tone, title="Matrix, The (1999)", link_confidence=0.2))
    assert not any("None" in text or "nan" in text for text in drafts(tone=tone))


def test_a_title_that_ends_in_a_mark_gets_no_full_stop() -> None:
    texts = drafts(title="Airplane! (1980)") + drafts(title="When Harry Met Sally... (1989)")
    assert not any("!." in text or "...." in text for text in texts)
    assert sum("When Harry Met Sally..." in text for text in texts) == 60


def test_a_service_apologises_for_its_own_aspects_to_their_team() -> None:
    price = [aspect("price", 0.05)]
    for text in drafts(text=PAN, label="negative", aspects=price, service_aspects=("price",)):
        assert "the price" in text
        assert "team" in text.rsplit("\n", 1)[0]
        assert "let you down" not in text  # nothing is said of the title
    for text in drafts(aspects=[*price, aspect("acting", 0.9)], service_aspects=("price",)):
        assert "the price" in text
        assert SORRY.search(text)
        assert GLAD.search(text) or said_aspects(text) == {"acting"}


@pytest.mark.parametrize(
    "text",
    [
        "Nein!",
        "👍👍👍",
        "10/10",
        "Ce film est une merveille, les acteurs sont formidables et la musique est belle.",
        "Una película muy aburrida, no me gustó nada y los actores son malos de verdad.",
        "Der Film war langweilig und die Schauspieler waren schlecht, ich habe mich geärgert.",
        "это было очень скучно и долго, не советую никому",
    ],
)
@pytest.mark.parametrize("label", ["positive", "negative"])
def test_what_is_short_or_in_another_language_gets_a_safe_reply(text: str, label: str) -> None:
    for draft in drafts(10, text=text, label=label, aspects=[aspect("acting", 0.01)]):
        assert not SORRY.search(draft)
        assert not GLAD.search(draft)
        assert not said_aspects(draft)
        assert re.search("thank", draft, re.IGNORECASE)


def test_nothing_is_drafted_for_empty_texts() -> None:
    frame = pd.DataFrame([review(0, text=""), review(1, text=" <br /> "), review(2, text="\x00"), review(3)])
    frame.loc[4] = frame.loc[3]
    frame.loc[4, "text"] = None
    assert [bool(text) for text in draft_replies(frame)] == [False, False, False, True, False]
    assert draft_replies(frame.iloc[:0]) == []


def test_drafts_are_the_same_each_time_and_differ_between_reviews() -> None:
    found = [aspect("acting", 0.95), aspect("story", 0.9)]
    texts = drafts(200, aspects=found)
    assert texts == drafts(200, aspects=found)
    frame = pd.DataFrame([review(i, aspects=found) for i in range(200)])
    assert draft_replies(frame.iloc[::-1]) == texts[::-1]
    assert len(set(texts)) > 190
    openings = pd.Series([re.split(r"(?<=[.!]) ", text)[0] for text in texts])
    assert openings.value_counts().iloc[0] < 20


def test_choices_do_not_depend_on_the_process() -> None:
    draws = replies._Draws("imdb-train-1")
    assert [draws.below(10) for _ in range(5)] == [3, 1, 6, 0, 2]


def test_a_title_is_not_named_twice_where_two_sentences_could(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "_plans", lambda *_: [[("thanks", False), ("glad", False)]])
    texts = [compile_reply(Facts(str(n), "positive", "Heat")) for n in range(30)]
    assert {text.count("Heat") for text in texts} == {1}


def test_every_sentence_of_every_tone_can_come_up_and_reads_well() -> None:
    parts = replies._parts()
    for tone, one in parts["tones"].items():
        used = {slot.rstrip("?") for plans in one["plans"].values() for plan in plans for slot in plan.split()}
        assert used <= set(one["slots"])
        assert set(one["slots"]) - used == {"service_liked", "service_disliked"} - used, tone
        for name, sentences in one["slots"].items():
            assert len({s.needs for s in replies._slot(tone, name)}) == 1, f"{tone}: {name}"
            assert len(sentences) == len(set(sentences))
            for written in sentences:
                assert written[0].isupper() or written[0] in "“{["
                assert written[-1] in ".!"
    kinds = {"positive", "negative", "neutral", "plain", "service"}
    assert all(set(one["plans"]) == kinds for one in parts["tones"].values())


FACTS = st.builds(
    Facts,
    review_id=st.text(min_size=1, max_size=20),
    kind=st.sampled_from(["positive", "negative"]),
    title=st.sampled_from(["", "Heat", "Airplane!", "12 Monkeys", "{Braces} [of] Title", "=HYPERLINK(1)"]),
    liked=st.lists(st.sampled_from(ASPECTS[:5]), max_size=3, unique=True).map(tuple),
    disliked=st.lists(st.sampled_from(ASPECTS[5:]), max_size=3, unique=True).map(tuple),
    service_liked=st.sampled_from([(), ("streaming quality",)]),
    service_disliked=st.sampled_from([(), ("price",)]),
)


@settings(max_examples=400, deadline=None)
@given(facts=FACTS, tone=st.sampled_from(replies.tones()), service=st.sampled_from(["our service", "Marquee"]))
def test_any_facts_make_a_draft_that_names_them_all_and_nothing_else(facts: Facts, tone: str, service: str) -> None:
    text = compile_reply(facts, tone, service)
    assert said_aspects(text.replace(facts.title, "")) == {*facts.liked, *facts.disliked}
    assert ("the price" in text) == bool(facts.service_disliked)
    assert ("the streaming quality" in text) == bool(facts.service_liked)
    assert facts.title in text
    assert text[0] not in "=+-@"  # a spreadsheet would take it for a formula
    assert not re.search(r"[{}]", text.replace(facts.title, ""))
    assert "  " not in text
    # What the parts say passes the check that is meant for generators.
    body = text if tone == "brief" else text.rsplit("\n", 1)[0]
    if facts.title not in ("=HYPERLINK(1)", "{Braces} [of] Title"):
        assert objection(body, facts, service) == ""


@settings(deadline=None)
@given(text=st.text(max_size=300), label=st.sampled_from(["positive", "negative", "neutral", "", "other"]))
def test_any_text_is_survived(text: str, label: str) -> None:
    found = [aspect("acting", 0.9, 0, len(text)), aspect("story", float("nan"), 5, 900), aspect("", 0.1)]
    row = review(0) | {"text": text, "label": label, "aspects": found}
    (draft,) = draft_replies(pd.DataFrame([row]))
    assert bool(draft) == bool(clean(text))


def test_columns_that_are_not_there_are_not_needed_and_those_that_are_get_named() -> None:
    frame = pd.DataFrame([review()])
    assert draft_replies(frame[["review_id", "text", "label"]])[0]
    with pytest.raises(UserError, match="label"):
        draft_replies(frame.drop(columns="label"))
    with pytest.raises(UserError, match="warm, formal, brief"):
        draft_replies(frame, tone="rude")


# -- quotes ------------------------------------------------------------------------------------------------------------


def quote(text: str) -> str:
    return pick_quote(text, [(0, len(text))])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The acting is wonderful.", "The acting is wonderful"),
        ("The acting is wonderful, and everybody in it has a past.", "The acting is wonderful"),
        ("a fascinating and fun film .", "a fascinating and fun film"),
        ("The <i>acting</i> is<br />wonderful &amp;c", ""),
        ("The <i>acting</i> is wonderful!", "The acting is wonderful"),
        ("A truly great, sad film about a man and his dog in Rome", ""),  # would cut "A truly great"
        ("The acting is not wonderful.", ""),
        ("The acting isn’t wonderful.", ""),
        ("If only the acting were wonderful.", ""),
        ("Everybody says the acting is wonderful.", ""),
        ("The acting is supposed to be wonderful.", ""),
        ("Is the acting wonderful?", ""),
        ("The damn acting is wonderful.", ""),
        ("Those wonderful lovely retards act.", ""),
        ("The acting is plain.", ""),
        ("which makes the acting wonderful.", ""),
        ("The 3 actors are wonderful.", ""),
        ("Wonderful!", ""),
        ("The acting of every man and woman in this long picture is wonderful.", ""),
    ],
)
def test_only_a_whole_kind_clause_is_quoted(text: str, expected: str) -> None:
    assert quote(text) == expected


def test_a_quote_starts_where_a_sentence_does() -> None:
    text = "They call it the ... the acting is wonderful."
    assert pick_quote(text, [(text.index("the acting"), len(text))]) == ""


def test_only_praise_in_a_praising_review_is_quoted() -> None:
    found = [aspect("acting", 0.95, 0, PRAISE.index(".") + 1)]
    assert facts_of("r", PRAISE, "positive", 0.97, found).quote == "The acting is wonderful and warm"
    assert facts_of("r", PRAISE, "negative", 0.03, found).quote == ""
    assert facts_of("r", PRAISE, "positive", 0.97, [found[0] | {"p_positive": 0.65}]).quote == ""
    quoted = [text for text in drafts(aspects=found) if "“The acting is wonderful and warm”" in text]
    assert 5 < len(quoted) < 60


# -- generators --------------------------------------------------------------------------------------------------------

MIXED = Facts(
    "r1", "positive", "The Matrix", liked=("acting",), disliked=("pacing",), text="The acting is superb. Neo is slow."
)
GOOD_TEXT = (
    "Thank you for your review of The Matrix. We are glad that the acting worked for you, and sorry about the pacing."
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD_TEXT, ""),
        ("Thank you for your words “The acting is superb”, we enjoyed them a lot.", ""),
        (GOOD_TEXT + " The script was a joy too.", "aspect script"),
        (GOOD_TEXT + " The price is going down.", "aspect price"),
        (GOOD_TEXT + " We'll refund you.", "promise"),
        (GOOD_TEXT + " We have fixed that.", "promise"),
        (GOOD_TEXT + " Back on Friday for more.", "promise"),
        (GOOD_TEXT + " It came out in 1999.", "figures, links or marks"),
        (GOOD_TEXT + " See www.example.com for more.", "figures, links or marks"),
        (GOOD_TEXT + " What did you think of it?", "figures, links or marks"),
        (GOOD_TEXT + " Dear [name], thank you.", "figures, links or marks"),
        (GOOD_TEXT + " Try Inception as well.", "name"),
        (GOOD_TEXT + " Inception is like that.", "name"),
        (GOOD_TEXT + " You called it “a total bore”.", "quotation"),
        ("Thank you, we loved what you say about the pacing of it.", "feeling"),
        ("Thank you for writing. We are sorry about the acting in it.", "feeling"),
        ("Thanks a lot.", "length"),
        ("Thank you. " * 70, "length"),
        ("", "length"),
    ],
)
def test_only_what_the_facts_bear_out_is_let_through(text: str, reason: str) -> None:
    assert objection(text, MIXED) == reason


def test_feelings_fit_the_review() -> None:
    praise, pan = Facts("r", "positive"), Facts("r", "negative")
    assert objection("Thank you for writing. We are sorry that it let you down.", praise) == "apology"
    assert objection("Thank you for writing. We are sorry that it let you down.", pan) == ""
    assert objection("Thank you for writing. We are so glad that you enjoyed it.", pan) == "delight"
    assert objection("Thank you for writing. We are so glad that you enjoyed it.", praise) == ""


def test_a_generated_text_is_used_where_it_holds_and_the_parts_elsewhere() -> None:
    frame = pd.DataFrame(
        [review(i, title="Matrix, The (1999)", aspects=[aspect("acting", 0.9)]) for i in range(3)]
        + [review(3, text="Ja.")]
    )
    held = "Thank you for the kind words about the acting in The Matrix."
    asked: list[str] = []

    def write(prompts: list[str]) -> list[str]:
        asked.extend(prompts)
        return [held + " And so on and", held + " We promise a refund.", ""]

    compiled = draft_replies(frame)
    assert draft_replies(frame, generator=write) == [held, *compiled[1:]]
    assert len(asked) == 3  # what is too short to be understood is not given to a generator
    assert all("The Matrix" in prompt and "the acting" in prompt and "warm" in prompt for prompt in asked)


def test_the_prompt_holds_the_head_of_the_review_only() -> None:
    prompt = replies.prompt_for(Facts("r", "positive", text="x" * 5_000), "formal")
    assert prompt.count("x") < 700
    assert "formal" in prompt


@pytest.fixture(scope="module")
def tiny_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of two layers and random weights, written as the hub would."""
    folder = tmp_path_factory.mktemp("generator")
    words = ["<end>", "<unk>", *sorted(set(re.findall(r"\w+|[^\w\s]", GOOD_TEXT)))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(words), n_positions=1024, n_embd=16, n_layer=2, n_head=2)
    config.bos_token_id = config.eos_token_id = 0
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_model_of_random_weights_never_gets_a_word_in(tiny_generator: Path) -> None:
    frame = pd.DataFrame([review(i, aspects=[aspect("acting", 0.9)]) for i in range(2)])
    assert draft_replies(frame, generator=str(tiny_generator)) == draft_replies(frame)
    written = replies.load_generator(str(tiny_generator))(["Thank you for your review"])
    assert len(written) == 1
    assert not written[0].startswith("Thank you for your review")


def test_a_chat_model_is_asked_as_one(tiny_generator: Path, tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_generator)
    tokenizer.chat_template = "{% for message in messages %}sorry {{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    GPT2LMHeadModel.from_pretrained(tiny_generator).save_pretrained(tmp_path)
    (asked,) = replies.load_generator(str(tmp_path))(["Thank you"])
    (plain,) = replies.load_generator(str(tiny_generator))(["sorry Thank you"])
    assert asked == plain


def test_a_generator_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing-here"):
        draft_replies(pd.DataFrame([review()]), generator=str(tmp_path / "nothing-here"))
