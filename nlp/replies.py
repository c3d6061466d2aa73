"""Drafts of replies to reviews: compiled from parts, grounded in the review, never sent by themselves.

A draft is a plan (which kinds of sentence, in which order) filled with sentences from nlp/replies.yaml. What a sentence
says of the review are its *facts*: the aspects that the finder found there and how the reviewer feels about them, the
linked title, a few of the reviewer's own words. A plan may be used when it needs no fact that is missing, and it has to
name every aspect that counts, so a mixed review gets thanks and an apology. Plan and sentences are drawn by a hash of
the review's id: the same review always gets the same draft, two reviews rarely do. Among the sentences of a slot those
that repeat the fewest words of the draft so far go first.

Where a generator is given it may write the text instead; `objection` lets through only what the facts bear out.
"""

import html
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from data.errors import UserError
from data.schema import LABEL, REVIEW_ID, TEXT, TITLE
from data.titles import display_title

Generator = Callable[[list[str]], list[str]]  # prompts to texts

PARTS = Path(__file__).parent / "replies.yaml"
DEFAULT_SERVICE = "our service"
# How sure an aspect's sentiment has to be to be named: less where it agrees with the review as a whole than where it
# contradicts it, because an aspect that goes against its review is more often the model's error. (disliked, liked)
SURE = {"positive": (0.25, 0.6), "negative": (0.4, 0.75), "neutral": (0.3, 0.7)}
MOST_NAMED = 3  # aspects of one kind in a draft
SURE_OF_REVIEW = 0.7  # below it, either way, a draft neither rejoices nor apologises for the review as a whole
LEAST_LINK_CONFIDENCE = 0.5
LONGEST_TITLE, PROMPT_CHARACTERS = 100, 600

_TAG = re.compile(r"<[^<>]{0,200}>")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\ufeff]")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_FACT = re.compile(r"\{(\w+)\}")
_OPTIONAL = re.compile(r"\[([^\[\]|]*)(?:\|([^\[\]]*))?\]")


@dataclass(frozen=True)
class Facts:
    """All that a draft may say of a review."""

    review_id: str
    kind: str  # positive, negative, neutral; service: only the service is complained of; plain: nothing is certain
    title: str = ""
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()
    service_liked: tuple[str, ...] = ()
    service_disliked: tuple[str, ...] = ()
    quote: str = ""
    text: str = field(default="", repr=False)

    @property
    def named(self) -> frozenset[str]:
        """Names of the facts that a plan may use."""
        return frozenset(name for name in ("liked", "disliked", "noted", "quote") if getattr(self, name))

    @property
    def aspects(self) -> tuple[str, ...]:
        return self.liked + self.disliked + self.noted + self.service_liked + self.service_disliked


@dataclass(frozen=True)
class Sentence:
    """One choice for a slot."""

    with_title: str
    without_title: str
    needs: frozenset[str]
    stems: frozenset[str]  # of the words that a draft should not repeat


# -- parts -------------------------------------------------------------------------------------------------------------


@cache
def _parts() -> dict[str, Any]:
    return yaml.safe_load(PARTS.read_text("utf-8"))


def _any_of(words: Sequence[str]) -> re.Pattern[str]:
    """One of the words; "*" stands for any letters."""
    patterns = "|".join(re.escape(word).replace(r"\*", r"\w*") for word in words)
    return re.compile(rf"\b(?:{patterns})\b", re.IGNORECASE)


@cache
def _pattern(group: str, name: str) -> re.Pattern[str]:
    return _any_of(_parts()[group][name])


def tones() -> list[str]:
    """The tones that there are parts for."""
    return list(_parts()["tones"])


def aspect_phrases(aspect: str) -> list[str]:
    """What an aspect is called in a sentence; the first always fits.

    >>> aspect_phrases("ending")[0], aspect_phrases("streaming quality")[0]
    ('the ending', 'the streaming quality')
    """
    name = " ".join(aspect.lower().replace("_", " ").split())
    name = _parts()["aliases"].get(name, name)
    known = _parts()["aspects"].get(name)
    return known["names"] if known else [name if name.startswith(("the ", "its ", "your ")) else f"the {name}"]


def _stems(text: str) -> frozenset[str]:
    words = _WORD.findall(_FACT.sub("", text).lower())
    return frozenset(stem for stem in _parts()["told_apart"] if any(word.startswith(stem) for word in words))


@cache
def _slot(tone: str, slot: str) -> list[Sentence]:
    sentences = []
    for written in _parts()["tones"][tone]["slots"][slot]:
        with_title = _OPTIONAL.sub(lambda found: found[1], written)
        without = _OPTIONAL.sub(lambda found: found[2] or "", written)
        needs = frozenset(name.lower() for name in _FACT.findall(without)) - {"service"}
        sentences.append(Sentence(with_title, without, needs, _stems(without)))
    return sentences


@cache
def _plans(tone: str, kind: str, there: frozenset[str]) -> list[list[tuple[str, bool]]]:
    """Plans as (slot, whether it may be left out), for the facts that are there."""
    found = []
    for written in _parts()["tones"][tone]["plans"][kind]:
        plan = [(slot.rstrip("?"), slot.endswith("?")) for slot in written.split()]
        if "quote" not in there:
            plan = [(slot, optional) for slot, optional in plan if not optional]
        needed = frozenset().union(*(_slot(tone, slot)[0].needs for slot, _ in plan))
        if needed <= there and there - {"quote"} <= needed:
            found.append(plan)
    return found


# -- facts -------------------------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """Plain words on one line: without tags, entities and what cannot be seen.

    >>> clean("Fine.<br /><br />Tom &amp; Jerry\\x00")
    'Fine. Tom & Jerry'
    """
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    return " ".join(_UNSEEN.sub(" ", text).split())


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Frequent in English and not in its neighbours: "a", "in", "was" or "on" are words elsewhere too.
_ENGLISH = _words(
    "the of and to is it this that with for you but not are be have has had from they at by his her who what which i "
    "my all just its it's than there about when how if or one out up only like good great bad best film movie"
)


def is_plain(text: str) -> bool:
    """Whether a text is too short or too little English for its scores to be relied on."""
    words = [word.lower() for word in _WORD.findall(text[:800])]
    if len(words) < 3:
        return True
    lexicon = _valence()
    signs = sum(word in _ENGLISH or (len(word) > 4 and word in lexicon) for word in words)
    return signs < 0.12 * len(words)


@cache
def _valence() -> dict[str, float]:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer().lexicon


_DOUBT = re.compile(r"[?\"“”*\d]")
# Where the first clause ends: not at every comma, lest "a great" be cut from "a great, sad film".
_CLAUSE_END = re.compile(r"\s*(?:;|,\s+(?:and|which|who|with|as)\b|[.!]+$)")


def pick_quote(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """A few kind words of the reviewer's own: the first clause, of 4 to 8 words, of one of the sentences, or nothing.

    Args:
        spans: (start, end) in `text` of the sentences to take it from, each of them praise.
    """
    lexicon, lists = _valence(), _parts()["quotes"]
    for start, end in spans:
        sentence = clean(text[start:end])
        if len(sentence) > 400 or _DOUBT.search(sentence) or _pattern("quotes", "twist").search(sentence):
            continue
        if _pattern("quotes", "rude").search(sentence):
            continue
        if sentence[:1].islower() and text != text.lower():
            continue  # the middle of a sentence, unless no sentence of the review begins with a capital
        words = _CLAUSE_END.split(sentence, maxsplit=1)[0].split()
        if not 4 <= len(words) <= 8 or not all(_WORD.fullmatch(word.replace("-", "")) for word in words):
            continue
        lower = [word.lower() for word in words]
        if (
            lower[0] in lists["not_first"]
            or lower[-1] in lists["not_last"]
            or any(len(w) > 2 and w.isupper() for w in words)
        ):
            continue
        values = [0.0 if word in lists["no_praise"] else lexicon.get(word, 0.0) for word in lower]
        if sum(values) >= 2.0 and min(values) >= 0:
            return " ".join(words)
    return ""


def _feelings(aspects: Any) -> dict[str, tuple[float, list[tuple[int, int]]]]:
    """Aspects in the order of mention, each with its mean p_positive and its sentences."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in sorted((a for a in aspects if a.get("aspect")), key=lambda a: a.get("start") or 0):
        if one.get("p_positive") is not None and one["p_positive"] == one["p_positive"]:
            found.setdefault(one["aspect"], []).append(one)
    return {
        name: (
            sum(m["p_positive"] for m in mentions) / len(mentions),
            [(int(m["start"]), int(m["end"])) for m in mentions if m.get("end")],
        )
        for name, mentions in found.items()
    }


def facts_of(
    review_id: str,
    text: str,
    label: str,
    p_positive: float | None = None,
    aspects: Any = (),
    title: str | None = None,
    service_aspects: Collection[str] = (),
) -> Facts:
    """What may be said of one review; `draft_replies` explains the arguments."""
    title = clean(display_title(title)) if title else ""
    title = title if len(title) <= LONGEST_TITLE else ""
    kind = label if label in SURE else "neutral"
    if p_positive is not None and (p_positive if kind == "positive" else 1 - p_positive) < SURE_OF_REVIEW:
        kind = "neutral"
    plain = clean(text)
    if is_plain(plain):
        return Facts(review_id, "plain", title, text=plain)
    feelings = _feelings(aspects)
    low, high = SURE[kind]
    film = {name: p for name, (p, _) in feelings.items() if name not in service_aspects}
    liked = tuple(name for name, p in film.items() if p >= high)[:MOST_NAMED]
    disliked = tuple(name for name, p in film.items() if p <= low)[:MOST_NAMED]
    service = {name: p for name, (p, _) in feelings.items() if name in service_aspects}
    service_disliked = tuple(name for name, p in service.items() if p <= SURE["negative"][0])
    service_liked = tuple(name for name, p in service.items() if p >= SURE["positive"][1])
    noted: tuple[str, ...] = ()
    if kind == "neutral" and not (liked and disliked):
        liked, disliked, noted = (), (), tuple(film)[:MOST_NAMED]
    if service_disliked and kind != "positive" and not disliked and not noted:
        kind = "service"
    quote = ""
    if kind == "positive":
        quote = pick_quote(text, [span for name in liked if feelings[name][0] >= 0.75 for span in feelings[name][1]])
    return Facts(review_id, kind, title, liked, disliked, noted, service_liked, service_disliked, quote, plain)


# -- drafts ------------------------------------------------------------------------------------------------------------


class _Draws:
    """Choices by the digits of a hash, in the base that each choice needs."""

    def __init__(self, key: str) -> None:
        self.left = int.from_bytes(blake2b(key.encode("utf-8", "replace"), digest_size=32).digest(), "big")

    def below(self, n: int) -> int:
        self.left, digit = divmod(self.left, n)
        return digit


def _enumerate(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def compile_reply(facts: Facts, tone: str = "warm", service: str = DEFAULT_SERVICE) -> str:
    """The draft that the parts give for these facts. Deterministic in `facts.review_id`."""
    draws = _Draws(facts.review_id)
    plans = _plans(tone, facts.kind, facts.named if facts.kind != "plain" else frozenset())
    plan = plans[draws.below(len(plans))]
    slots = [slot for slot, optional in plan if not optional or draws.below(3)]
    for name in ("service_liked", "service_disliked"):
        if getattr(facts, name):
            slots.insert(max(1, len(slots) - 1), name)
    title, used, said = facts.title, frozenset[str](), []
    for slot in slots:
        choices = _slot(tone, slot)
        first = draws.below(len(choices))
        order = choices[first:] + choices[:first]
        sentence = min(order, key=lambda one: len(one.stems & used))
        used |= sentence.stems
        template = sentence.with_title if title else sentence.without_title
        values = {"title": title, "service": service, "quote": facts.quote}
        for name in sentence.needs - {"quote"}:
            # Beside the title the plain name, as "how it ended" already says "it".
            phrases = [aspect_phrases(aspect) for aspect in getattr(facts, name)]
            chosen = [p[0] if "{title}" in template else p[draws.below(len(p))] for p in phrases]
            values[name] = _enumerate(chosen)
            values[name.capitalize()] = values[name][:1].upper() + values[name][1:]
        said.append(template.format_map(values))
        if "{title}" in template:
            title = ""
    body = " ".join(said)
    if facts.title.endswith((".", "!", "?")):
        body = body.replace(f"{facts.title}.", facts.title)
    closings = _parts()["tones"][tone]["sign_off"]
    if not closings:
        return body
    team = "the team" if service == DEFAULT_SERVICE else f"the {service} team"
    return f"{body}\n{closings[draws.below(len(closings))].format(team=team)}"


def draft_replies(
    reviews: pd.DataFrame,
    tone: str = "warm",
    service: str = DEFAULT_SERVICE,
    generator: str | Generator | None = None,
    service_aspects: Collection[str] = (),
) -> list[str]:
    """A draft for each review, in order; "" where the text is empty.

    Args:
        reviews: columns review_id, text, label; and where known p_positive, aspects (dicts of aspect, p_positive,
            start, end), title (of the linked title), link_confidence.
        tone: see `tones`.
        service: the name to sign with.
        generator: name or folder of a text-generation model for transformers, or a function from prompts to texts;
            where the review does not bear out what it writes, the draft is compiled from the parts.
        service_aspects: aspects that are the service's own doing, such as the price; they are apologised for as such.

    Raises:
        UserError: no such tone, a column is missing, or the generator cannot be loaded.
    """
    if tone not in tones():
        raise UserError(f"The tone '{tone}' does not exist: choose {', '.join(tones())}.")
    missing = [name for name in (REVIEW_ID, TEXT, LABEL) if name not in reviews]
    if missing:
        raise UserError(f"Reviews to answer need the column '{missing[0]}' (found: {', '.join(map(str, reviews))}).")
    n, service = len(reviews), clean(service) or DEFAULT_SERVICE
    titles = _column(reviews, TITLE)
    for i, confidence in enumerate(_column(reviews, "link_confidence")):
        if confidence is not None and confidence < LEAST_LINK_CONFIDENCE:
            titles[i] = None
    facts: list[Facts | None] = [None] * n
    columns = (_column(reviews, name) for name in (REVIEW_ID, TEXT, LABEL, "p_positive", "aspects"))
    for i, (review_id, text, label, p, aspects) in enumerate(zip(*columns, strict=True)):
        if text is not None and clean(str(text)):
            found = aspects if aspects is not None else ()
            facts[i] = facts_of(str(review_id), str(text), str(label), p, found, titles[i], service_aspects)
    drafts = ["" if one is None else compile_reply(one, tone, service) for one in facts]
    if generator is not None:
        write = load_generator(generator) if isinstance(generator, str) else generator
        asked = [i for i, one in enumerate(facts) if one is not None and one.kind != "plain"]
        written = write([prompt_for(one, tone, service) for i in asked if (one := facts[i]) is not None])
        for i, text in zip(asked, written, strict=True):
            one, text = facts[i], _whole_sentences(text)
            if one is not None and not objection(text, one, service):
                drafts[i] = text
    return drafts


def _column(frame: pd.DataFrame, name: str) -> list[Any]:
    """Values of a column, None where there is none."""
    if name not in frame:
        return [None] * len(frame)
    column = frame[name].astype(object)
    return column.where(column.notna(), None).tolist()


# -- generator ---------------------------------------------------------------------------------------------------------


@cache
def load_generator(name: str) -> Generator:
    """A transformers model (hub name or folder) as a function from prompts to texts.

    Raises:
        UserError: it cannot be loaded.
    """
    from transformers import pipeline

    try:
        write = pipeline("text-generation", model=name)
    except (OSError, ValueError, RuntimeError) as failure:
        reason = str(failure).strip().splitlines()[0]
        raise UserError(f"The text generator '{name}' cannot be loaded ({reason}): name another, or none.") from None
    tokenizer: Any = write.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id

    def generate(prompts: list[str]) -> list[str]:
        if not prompts:
            return []
        chats = getattr(tokenizer, "chat_template", None) is not None
        asked: Any = [[{"role": "user", "content": prompt}] for prompt in prompts] if chats else prompts
        answers = write(asked, max_new_tokens=120, do_sample=False, return_full_text=False)
        return [str(answer[0]["generated_text"]) for answer in answers]

    return generate


def prompt_for(facts: Facts, tone: str, service: str = DEFAULT_SERVICE) -> str:
    """What a generator is asked: the facts, the tone and the head of the review."""
    known = [f"Overall: {facts.kind if facts.kind in SURE else 'a complaint about the service'}."]
    known += [f"Title: {facts.title}."] if facts.title else []
    for name, words in (
        ("liked", "The reviewer liked"),
        ("disliked", "The reviewer disliked"),
        ("noted", "The reviewer mentions"),
        ("service_liked", "About the service, the reviewer liked"),
        ("service_disliked", "About the service, the reviewer disliked"),
    ):
        if aspects := getattr(facts, name):
            known.append(f"{words} {_enumerate([aspect_phrases(aspect)[0] for aspect in aspects])}.")
    return (
        f"Write a short reply of two to four sentences to a viewer's review, in a {tone} tone, on behalf of {service}, "
        "which did not make the title. Thank for praise, say sorry for what disappointed. Promise nothing, ask "
        "nothing, give no dates, numbers or links, and say nothing that the facts do not say.\n"
        f"Facts: {' '.join(known)}\n"
        f"Review: {facts.text[:PROMPT_CHARACTERS]}\nReply:"
    )


def _whole_sentences(text: str) -> str:
    """The text up to its last full stop."""
    text = " ".join(text.split())
    ends = [found.end() for found in re.finditer(r"[.!](?=\s|$)", text)]
    return text[: ends[-1]] if ends else ""


_FOREIGN = re.compile(r"\d|https?:|www\.|\w\.(?:com|net|org|tv)\b|[@#{}\[\]<>|\\_*?$€£]")
_QUOTED = re.compile(r"[\"“”]([^\"“”]+)[\"“”]|(?<!\w)[‘']([^‘’']{3,})[’'](?!\w)")


def objection(text: str, facts: Facts, service: str = DEFAULT_SERVICE) -> str:
    """Why a written text must not be a draft for these facts; "" when nothing speaks against it.

    It may hold only the title, names and aspects of the facts, its feelings have to be those of the review, and it
    promises nothing and quotes nothing that is not there.
    """
    stop = "." if facts.title.endswith((".", "!", "?")) else ""  # such a title may end its sentence
    body = text.replace(facts.title, f"TITLE{stop}") if facts.title else text
    body = body.replace(service, "SERVICE")
    n_words = len(body.split())
    if not 4 <= n_words <= 130 or len(text) > 900:
        return "length"
    if not text[0].isalpha() or _FOREIGN.search(body):
        return "figures, links or marks"
    if _pattern("generated", "promises").search(body):
        return "promise"
    for one, other in _QUOTED.findall(body):
        if clean(one or other).lower().strip(" .,!") not in facts.text.lower():
            return "quotation"
    body = _QUOTED.sub("", body)
    if any(name not in _vocabulary() for name in _capitalised(body)):
        return "name"
    apology, delight = _pattern("generated", "apology"), _pattern("generated", "delight")
    spoken = _aspects_in(body)
    if extra := spoken - {_known(aspect) for aspect in facts.aspects}:
        return f"aspect {min(extra)}"
    bad = {_known(aspect) for aspect in facts.disliked + facts.service_disliked}
    good = {_known(aspect) for aspect in facts.liked + facts.service_liked}
    if apology.search(body) and not bad and facts.kind not in ("negative", "service"):
        return "apology"
    if delight.search(body) and not good and facts.kind != "positive":
        return "delight"
    for clause in re.split(r"[.!;,:]|\b(?:but|while|though|although|and)\b", body):
        about = _aspects_in(clause)
        if (about and about <= bad and delight.search(clause)) or (about and about <= good and apology.search(clause)):
            return "feeling"
    return ""


def _capitalised(body: str) -> set[str]:
    """Words that look like names, lower-cased; a sentence's first word too, as a title may stand there."""
    return {word.lower() for word in re.findall(r"\b[A-Z][\w'’]*", body) if word not in ("TITLE", "SERVICE", "I")}


@cache
def _vocabulary() -> frozenset[str]:
    """Words that may be capitalised: those that begin sentences in the parts, and plain English ones."""
    starts = (s.split()[0] for tone in _parts()["tones"].values() for slot in tone["slots"].values() for s in slot)
    closings = (word for tone in _parts()["tones"].values() for line in tone["sign_off"] for word in line.split())
    more = "as dear hello hi while although though your you we'd we've best regards sincerely please and but however at"
    return frozenset({w.strip("[]{}“”.,!").lower() for w in (*starts, *closings, *more.split())} | _ENGLISH)


def _known(aspect: str) -> str:
    name = " ".join(aspect.lower().replace("_", " ").split())
    return _parts()["aliases"].get(name, name)


def _aspects_in(text: str) -> set[str]:
    return {name for name, words in _aspect_words().items() if words.search(text)}


@cache
def _aspect_words() -> dict[str, re.Pattern[str]]:
    known = _parts()["aspects"].items()
    return {name: _any_of(one["words"]) for name, one in known}
