"""Explanations: they add up, they point at the right characters, and what they point at matters."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerIntegratedGradients
from conftest import BAD, GOOD, PLAIN, generated_tables
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_encoder import LEARN, train_tiny, write_tiny_encoder

from data.dataset import Source, write_dataset
from data.runs import current_run
from nlp import encoder as encoders
from nlp import explain as module
from nlp.explain import Explanation, Word, deletion_effect, explain, highlight, original_places
from nlp.ngrams import ngrams_of
from nlp.predictor import SentimentScorer
from nlp.sentiment import SentimentModule
from nlp.tokens import clean, cut, tokenise

BUCKETS = 4096
LONG = " ".join(["the film with a story about people in town brilliant"] * 12 + ["awful"])  # 121 tokens, 5 windows
ODD = st.sampled_from(
    [
        *GOOD,
        *BAD,
        *PLAIN,
        "<br />",
        "<BR/>",
        "<br",
        " ",
        "\n",
        "\x00",
        "🙂",
        "👍🏽",
        "é",
        "e\u0301",
        "İ",
        "фильм",
        "映画",
        "...",
        "'",
    ]
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def scorer(encoder: Path) -> SentimentScorer:
    """Random weights with a head that speaks up, a bag with random weights, and a calibration that shows if missed."""
    torch.manual_seed(1)
    net = SentimentModule(encoder=str(encoder), max_tokens=32, ngram_buckets=BUCKETS)
    torch.nn.init.normal_(net.head.weight, std=1.0)
    net.encoder.get_input_embeddings().weight.data.mul_(20.0)  # so far from linear that steps matter
    assert net.bag is not None
    net.bag.weight.normal_()
    net.bag.scale.uniform_(0.5, 2.0)
    net.bag.bias.fill_(0.3)
    net.mix.fill_(0.7)
    net.temperature.fill_(1.7)
    net.slopes.copy_(torch.tensor([0.1, -0.2]))
    return SentimentScorer(net, encoders.load_tokenizer(str(encoder)), "tiny")


def mixed_review(rng: np.random.Generator, positive: bool) -> str:
    """More words of the label's side than of the other, anywhere among plain ones."""
    more, fewer = (GOOD, BAD) if positive else (BAD, GOOD)
    words = [*rng.choice(more, 2), *rng.choice(fewer, rng.integers(0, 2)), *rng.choice(PLAIN, rng.integers(5, 12))]
    return " ".join(rng.permutation(words))


@pytest.fixture(scope="module")
def trained(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> SentimentScorer:
    """A model that has learned which words are good and which bad, wherever they stand."""
    rng = np.random.default_rng(0)
    tables = {"reviews": generated_tables(reviews=400)["reviews"]}
    tables["reviews"]["text"] = [mixed_review(rng, label == "positive") for label in tables["reviews"]["label"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_HOME", str(tmp_path_factory.mktemp("home")))
        write_dataset("small", tables, sources=[Source("generated", "generated")])
        assert train_tiny("quick", encoder, "small", *LEARN, "--model.ngram_buckets", "1024") == 0
        run = current_run("small", "sentiment")
        assert run is not None
        return SentimentScorer.load(run, device="cpu")


def attributions(found: Explanation) -> np.ndarray:
    return np.array([word.attribution for word in found.words])


def bucket_of(scorer: SentimentScorer, text: str) -> np.ndarray:
    return ngrams_of(tokenise(scorer.tokenizer, [text]), np.arange(1), BUCKETS)[1]


def bag_alone(scorer: SentimentScorer) -> None:
    torch.nn.init.zeros_(scorer.module.head.weight)


@pytest.mark.parametrize("text", ["brilliant", "the film with a brilliant story, and awful people", LONG])
def test_attributions_and_baseline_add_up_to_the_scorers_logit(scorer: SentimentScorer, text: str) -> None:
    found = explain(scorer, text, steps=64)
    net = scorer.module
    assert found.logit == pytest.approx(scorer.logits([text])[0] / float(net.temperature), abs=1e-4)
    assert found.p_positive == pytest.approx(scorer.predict([text])["p_positive"][0], abs=1e-4)
    baseline = np.log(found.baseline_p / (1 - found.baseline_p))
    assert found.residual == pytest.approx(found.logit - baseline - attributions(found).sum(), abs=1e-9)
    assert abs(found.logit - baseline) > 0.05
    assert abs(found.residual) < 0.01


def test_the_residual_shows_too_few_steps(scorer: SentimentScorer) -> None:
    residual = [abs(explain(scorer, "a brilliant story about awful people", steps).residual) for steps in (1, 4, 32)]
    assert residual[0] > residual[1] > residual[2]


def test_the_baseline_is_the_same_frame_around_padding_tokens(scorer: SentimentScorer) -> None:
    scorer.module.mix.zero_()
    silent = scorer.logits(["[PAD] [PAD] [PAD]"])[0] / float(scorer.module.temperature)
    baseline = explain(scorer, "brilliant awful film").baseline_p
    assert np.log(baseline / (1 - baseline)) == pytest.approx(silent, abs=1e-4)


def test_the_encoders_part_is_that_of_layer_integrated_gradients(scorer: SentimentScorer) -> None:
    text, net = "a brilliant story about awful people", scorer.module
    net.mix.zero_()
    net.slopes.zero_()
    ids = torch.tensor([scorer.tokenizer(text)["input_ids"]])
    silent = torch.full_like(ids, scorer.tokenizer.pad_token_id)
    silent[:, [0, -1]] = ids[:, [0, -1]]

    def logit(given: torch.Tensor) -> torch.Tensor:
        return net.head(net.encoder(input_ids=given).last_hidden_state.mean(1)).squeeze(-1)

    by_layer = LayerIntegratedGradients(logit, net.encoder.get_input_embeddings())
    expected = by_layer.attribute(ids, silent, n_steps=8).sum(-1)[0, 1:-1].detach().numpy() / float(net.temperature)
    np.testing.assert_allclose(attributions(explain(scorer, text, steps=8)), expected, atol=1e-4)


def test_the_bags_part_is_exact_and_pairs_are_shared(scorer: SentimentScorer) -> None:
    bag_alone(scorer)
    bag, net = scorer.module.bag, scorer.module
    assert bag is not None
    for text in ("film", "film film film film", "a brilliant film and a brilliant story", LONG):
        assert abs(explain(scorer, text).residual) < 1e-5
    text = "brilliant film brilliant story"
    pair = np.setdiff1d(
        bucket_of(scorer, "film brilliant"), np.union1d(bucket_of(scorer, "film"), bucket_of(scorer, GOOD[2]))
    )
    bag.scale.fill_(1.0)
    bag.weight.zero_()
    bag.weight[bucket_of(scorer, "brilliant")] = 2.0
    bag.weight[pair] = 6.0
    net.slopes.zero_()
    # Three tokens and three pairs are distinct; "brilliant" stands twice, so each place has half of its 2.
    unit = 0.7 / 1.7 / np.sqrt(6)
    np.testing.assert_allclose(attributions(explain(scorer, text)) / unit, [1, 3, 1 + 3, 0], atol=1e-4)


def test_a_word_that_the_bag_makes_decisive_comes_out_on_top(scorer: SentimentScorer) -> None:
    assert scorer.module.bag is not None
    scorer.module.bag.weight[bucket_of(scorer, "story")] = -300.0
    found = explain(scorer, LONG.replace("story", "film", 11))
    worst = found.words[int(attributions(found).argmin())]
    assert LONG.replace("story", "film", 11)[worst.start : worst.end] == "story"
    assert attributions(found).min() < -1


def test_every_window_of_a_long_text_counts_in_bounded_batches(
    scorer: SentimentScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer.module.mix.zero_()
    scorer.module.slopes.zero_()
    words = LONG.split()
    windows = cut(np.array([len(words)]), 30)
    assert len(windows.start) > 4
    expected = np.zeros(len(words))
    for start, length in zip(windows.start.tolist(), windows.length.tolist(), strict=True):
        alone = explain(scorer, " ".join(words[start : start + length]))
        expected[start : start + length] += attributions(alone) / len(windows.start)
    rows: list[int] = []
    inner = module.encoder_logit

    def watched(net: SentimentModule, embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        rows.append(len(embeddings))
        return inner(net, embeddings, mask)

    monkeypatch.setattr(module, "encoder_logit", watched)
    monkeypatch.setattr(module, "_BATCH_TOKENS", 32 * 3)
    np.testing.assert_allclose(attributions(explain(scorer, LONG)), expected, atol=1e-4)
    assert max(rows) == 3


def test_of_very_many_windows_the_decisive_are_read_and_the_residual_has_the_rest(
    scorer: SentimentScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer.module.mix.zero_()
    scorer.module.slopes.zero_()
    whole = explain(scorer, LONG, 64)
    monkeypatch.setattr(module, "_MOST_WINDOWS", 1)
    found = explain(scorer, LONG, 64)
    assert found.logit == pytest.approx(whole.logit)
    weights = attributions(found)
    read = weights.nonzero()[0]
    windows = cut(np.array([len(LONG.split())]), 30)
    starts, length = windows.start.tolist(), int(windows.length[0])
    assert len(read) == read[-1] - read[0] + 1 == length
    alone = [explain(scorer, " ".join(LONG.split()[start : start + length]), 64) for start in starts]
    share = [one.logit - float(np.log(one.baseline_p / (1 - one.baseline_p))) for one in alone]
    best = int(np.argmax(np.abs(share)))
    assert read[0] == starts[best]
    assert found.residual == pytest.approx((sum(share) - share[best]) / len(share), abs=0.01)


@pytest.mark.parametrize("text", ["", "   \n", "\x00", "<br />", "🙂🙂", "\x00 film\x00<br />awful"])
def test_any_text_can_be_explained_as_it_is_scored(scorer: SentimentScorer, text: str) -> None:
    found = explain(scorer, text)
    assert found.p_positive == pytest.approx(scorer.predict([text])["p_positive"][0], abs=1e-4)
    assert np.isfinite([found.logit, found.baseline_p, found.residual, *attributions(found)]).all()
    if not text.strip():
        assert (found.words, found.p_positive, found.baseline_p) == ([], 0.5, 0.5)


def test_places_skip_what_cleaning_takes_away() -> None:
    assert original_places("").tolist() == []
    assert original_places("a<br>b\x00<BR />🙂<br").tolist() == [0, 1, 5, 6, 7, 13, 14, 15, 16]
    assert len(clean("a<br>b\x00<BR />🙂<br")) == 9


def test_words_with_tags_emoji_and_marks(scorer: SentimentScorer) -> None:
    text = "<br /><br />It's so-so🙂<br/>BRILLIANT, 8/10!! 7.5.\x00Cafe\u0301… <br"
    said = [text[word.start : word.end] for word in explain(scorer, text).words]
    assert said == ["It's", "so-so", "🙂", "BRILLIANT", ",", "8/10", "!!", "7.5", ".", "Cafe\u0301", "…", "<", "br"]
    bag_alone(scorer)
    assert scorer.module.bag is not None
    scorer.module.bag.weight.zero_()
    scorer.module.bag.weight[bucket_of(scorer, "brilliant")] = 5.0
    assert [text[w.start : w.end] for w in explain(scorer, text).words if abs(w.attribution) > 1e-6] == ["BRILLIANT"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(ODD, max_size=40).map("".join))
def test_tokens_fall_on_their_own_words(scorer: SentimentScorer, text: str) -> None:
    """The bag alone, with all weight on known words: exactly these words carry it, wherever tags shift them."""
    bag_alone(scorer)
    bag = scorer.module.bag
    assert bag is not None
    bag.weight.zero_()
    found = explain(scorer, text)
    assert len(original_places(text)) == len(clean(text))
    bounds = [(word.start, word.end) for word in found.words]
    assert all(start < end for start, end in bounds)
    assert all(left[1] <= right[0] for left, right in pairwise(bounds))
    covered = "".join(text[start:end] for start, end in bounds)
    assert not any(character.isspace() for character in covered)
    bag.weight[bucket_of(scorer, "wonderful")] = 5.0
    carriers = [text[w.start : w.end] for w in explain(scorer, text).words if abs(w.attribution) > 1e-6]
    assert all("wonderful" in carrier for carrier in carriers)
    spaced = f"{text} wonderful <br />"
    last = [word for word in explain(scorer, spaced).words if abs(word.attribution) > 1e-6][-1]
    assert spaced[last.start : last.end] == "wonderful"


def test_highlights_are_phrases_in_order_with_strength() -> None:
    text = "not good<br />at all, but fine"
    places = [(0, 3), (4, 8), (14, 16), (17, 20), (20, 21), (22, 25), (26, 30)]
    weights = [-2.0, -1.0, -0.5, -0.6, 0.05, 0.15, 1.5]
    found = Explanation([Word(*p, w) for p, w in zip(places, weights, strict=True)], -2.0, 0.1, 0.5, 0.0)
    parts = [(text[a:b], round(strength, 3)) for a, b, strength in highlight(text, found, 5)]
    # A tag between two words parts them: its characters must not be coloured.
    assert parts == [("not good", -1.0), ("at all", round(-1.1 / 3, 3)), ("fine", 0.5)]
    assert [(text[a:b], s) for a, b, s in highlight(text, found, 2)] == [("not", -1.0), ("fine", 0.75)]
    assert [text[a:b] for a, b, _ in highlight(text, found, 99)] == ["not good", "at all", "but fine"]
    assert highlight(text, found, 0) == []
    against = Explanation([Word(0, 3, -2.0), Word(4, 8, 1.0)], -1.0, 0.3, 0.5, 0.0)
    assert highlight(text, against) == [(0, 3, -1.0), (4, 8, 0.5)]
    assert highlight("", Explanation([], 0.0, 0.5, 0.5, 0.0)) == []


def test_deleting_the_top_words_moves_the_probability_more_than_random_ones(trained: SentimentScorer) -> None:
    rng = np.random.default_rng(5)
    effects = []
    for positive in [True, False] * 8:
        text = mixed_review(rng, positive)
        found = explain(trained, text)
        effect = deletion_effect(trained, text, found, 2)
        side = 1 if found.p_positive > 0.5 else -1
        assert effect["p_positive"] == pytest.approx(found.p_positive, abs=0.01)  # bfloat16
        assert effect["drop_top"] == pytest.approx(side * (effect["p_positive"] - effect["p_without_top"]))
        assert effect["drop_random"] == pytest.approx(side * (effect["p_positive"] - effect["p_without_random"]))
        effects.append(effect)
    top, random = (np.mean([effect[name] for effect in effects]) for name in ("drop_top", "drop_random"))
    assert top > 0.3
    assert top > 3 * abs(random)


def test_deletion_is_seeded_and_works_on_short_texts(scorer: SentimentScorer) -> None:
    for text in ("brilliant", "", "a dull film about town"):
        found = explain(scorer, text)
        assert deletion_effect(scorer, text, found, 2, seed=1) == deletion_effect(scorer, text, found, 2, seed=1)
    assert deletion_effect(scorer, text, found, 2, seed=1) != deletion_effect(scorer, text, found, 2, seed=2)
    everything = deletion_effect(scorer, text, found, 99)
    assert everything["p_without_top"] == pytest.approx(everything["p_without_random"])
