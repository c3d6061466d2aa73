"""Windows cover every word, batches lose none, augmentation does what it says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoder import write_tiny_encoder

from nlp.datamodule import LengthBuckets, augment, window_batch
from nlp.encoder import load_tokenizer
from nlp.tokens import Frame, batches_by_length, cut, frame_of, pad, scatter, tokenise


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder: Path = tmp_path_factory.mktemp("tiny")
    return load_tokenizer(str(write_tiny_encoder(folder)))


@given(lengths=st.lists(st.integers(0, 500), min_size=1, max_size=20), room=st.integers(4, 64))
def test_windows_cover_every_token_with_overlap(lengths: list[int], room: int) -> None:
    windows = cut(np.array(lengths), room)
    for i, length in enumerate(lengths):
        mine = windows.of(np.array([i]))
        covered = np.zeros(length, int)
        for start, size in zip(mine.start, mine.length, strict=True):
            assert size <= min(length, room)
            covered[start : start + size] += 1
        assert (covered > 0).all()
        assert len(set(mine.length)) == 1
        # Rounding a start may take one token of the overlap.
        assert len(mine.text) == 1 or (np.diff(mine.start) <= mine.length[0] - int(room / 8) + 1).all()
        assert mine.length.sum() <= length + len(mine.text) * (int(room / 8) + 1)


def test_fewer_windows_still_reach_from_the_first_to_the_last_token() -> None:
    windows = cut(np.array([1000, 5]), 100, most=3)
    assert windows.text.tolist() == [0, 0, 0, 1]
    assert windows.start.tolist() == [0, 450, 900, 0]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 3), st.randoms(use_true_random=False))
def test_scattered_windows_stay_in_their_text_and_in_order(lengths: list[int], most: int, random) -> None:
    windows = cut(np.array(lengths), 10, most)
    moved = scatter(windows, np.array(lengths), np.array([random.random() for _ in windows.text]))
    assert moved.text.tolist() == windows.text.tolist()
    assert moved.length.tolist() == windows.length.tolist()
    assert (moved.start >= 0).all()
    assert (moved.start + moved.length <= np.array(lengths)[moved.text]).all()
    same = moved.text[1:] == moved.text[:-1]
    assert (np.diff(moved.start)[same] >= 0).all()


def test_scattering_reaches_every_start() -> None:
    windows = cut(np.array([13]), 10, 1)
    starts = {int(scatter(windows, np.array([13]), np.array([chance])).start[0]) for chance in (0.0, 0.3, 0.6, 0.999)}
    assert starts == {0, 1, 2, 3}


def test_long_texts_are_not_cut_by_the_tokenizer(tokenizer: object) -> None:
    tokens = tokenise(tokenizer, ["film " * 3000, "", "film<br />film"], chunk=2)
    assert tokens.lengths.tolist() == [3000, 0, 2]


def test_padded_windows_are_what_the_tokenizer_itself_would_give(tokenizer: object) -> None:
    texts = ["the film", "", "a long story about people in town"]
    tokens, frame = tokenise(tokenizer, texts), frame_of(tokenizer)
    assert frame == Frame(before=(2,), after=(3,), pad=0, mask=4)
    ids, mask = pad(tokens, cut(tokens.lengths, 14), frame)
    for row, there, text in zip(ids, mask, texts, strict=True):
        assert row[there].tolist() == [2, *tokenizer(text, add_special_tokens=False)["input_ids"], 3]  # type: ignore[operator]
        assert (row[~there] == 0).all()


def test_batches_hold_every_position_once_within_the_budget() -> None:
    length = np.random.default_rng(0).integers(1, 90, 500)
    batches = list(batches_by_length(length, 256))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(len(b) * length[b].max() <= 256 for b in batches)
    assert [b.tolist() for b in batches_by_length(np.array([900]), 256)] == [[0]]


def test_length_buckets_pad_little_and_change_from_epoch_to_epoch() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 1000)
    buckets = LengthBuckets(lengths, 16, seed=1)
    first = list(buckets)
    assert len(first) == len(buckets)
    assert sorted(i for batch in first for i in batch) == list(range(1000))
    padded = sum(len(b) * lengths[b].max() for b in first)
    assert padded < 1.1 * lengths.sum()
    buckets.set_epoch(1)
    assert list(buckets) != first
    buckets.set_epoch(0)
    assert list(buckets) == first


def batch_of(tokenizer: object, texts: list[str]) -> tuple[dict[str, torch.Tensor], Frame]:
    tokens, frame = tokenise(tokenizer, texts), frame_of(tokenizer)
    return window_batch(tokens, cut(tokens.lengths, 62), frame), frame


def test_masking_replaces_a_share_of_the_inner_tokens(tokenizer: object) -> None:
    batch, frame = batch_of(tokenizer, ["film " * 60] * 50)
    torch.manual_seed(0)
    augment(batch, frame, 0.0, 0.2)
    assert (batch["input_ids"] == 4).float().mean().item() == pytest.approx(0.2 * 60 / 62, abs=0.02)
    assert (batch["input_ids"][:, 0] == 2).all()
    assert (batch["input_ids"][:, -1] == 3).all()


def test_word_dropout_keeps_order_and_frame(tokenizer: object) -> None:
    text = "the film with a story about people in town and their long way home"
    batch, frame = batch_of(tokenizer, [text, "film"])
    before = batch["input_ids"][0].tolist()
    torch.manual_seed(0)
    augment(batch, frame, 0.5, 0.0)
    kept = batch["input_ids"][0][batch["mask"][0]].tolist()
    assert 2 < len(kept) < len(before)
    assert kept[0] == 2
    assert kept[-1] == 3
    remaining = iter(before)
    assert all(token in remaining for token in kept)  # a subsequence
    assert (batch["input_ids"][~batch["mask"]] == 0).all()
