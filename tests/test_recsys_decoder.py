"""The decoder gives the logits of HistoryNet's own `decode`, whatever parts take part and wherever titles stand."""

import numpy as np
import pytest
import torch

from recsys import decoder as decoder_module
from recsys.decoder import Decoder
from recsys.eight_bits import EightBits
from recsys.history import HistoryModule
from recsys.windows import History

pytestmark = pytest.mark.usefixtures("one_thread")


def module(n_items: int = 40, n_linear: int = 25, **settings) -> HistoryModule:
    """HistoryNet with random numbers for what it would learn, and titles of T here and there in the catalogue."""
    torch.manual_seed(1)
    made = HistoryModule(
        7, n_items, size=8, hidden=12, content_buckets=16, search=False, max_linear_titles=n_linear, **settings
    )
    for parameter in (made.title.weight, made.event, made.bias):
        torch.nn.init.normal_(parameter.data, std=0.5)
    made.mixture.popularity.copy_(torch.rand(4, n_items).softmax(1))
    made.mixture.served.copy_(torch.tensor([0.7, 3.0]))
    made.mixture.half_life.fill_(2)
    if made.transition is not None:
        size = made.transition.size
        made.transition.packed[:-1] = EightBits.of(0.3 * torch.randn(size, size)).packed
        made.transition.titles.copy_(torch.randperm(n_items)[:size].sort().values)
        made.transition.row.fill_(size)
        made.transition.row[made.transition.titles] = torch.arange(size)
    made.eval().serve()
    return made


def histories(n_items: int, batch: int = 9, events: int = 12) -> History:
    item = torch.randint(n_items + 1, (batch, events))
    item[0] = n_items  # of whom nothing is known
    return History(item, torch.full((batch, events), torch.nan), torch.rand(batch, events))


@pytest.mark.parametrize("n_linear", [25, 40, 6_000])
@pytest.mark.parametrize("settings", [{}, {"linear": False}, {"neural": False}, {"content": False}])
@pytest.mark.parametrize("width", [1, 5, 7, 25, 39, 40, 512])  # 5: T ends with a tile; 7: within one
@torch.no_grad()
def test_logits_are_those_of_the_module(
    n_linear: int, settings: dict, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "_TILE", width * 512)
    ours = module(n_linear=n_linear, **settings)
    decoder, encoded = Decoder(ours), ours.encode(histories(40))
    assert sorted(decoder.titles.tolist()) == list(range(40))
    assert torch.equal(decoder.titles[decoder.columns], torch.arange(40))
    expected = ours.decode(encoded)
    torch.testing.assert_close(decoder.decode(encoded)[:, decoder.columns], expected, rtol=1e-4, atol=1e-4)
    room = torch.full((5, 40), torch.nan)
    for first in range(0, 9, 4):
        block = encoded.block(first, min(first + 4, 9))
        found = decoder.decode(block, room)
        assert found.data_ptr() == room.data_ptr()
        torch.testing.assert_close(found[:, decoder.columns], expected[first : first + 4], rtol=1e-4, atol=1e-4)
        assert room[4].isnan().all()


@torch.no_grad()
def test_new_titles_and_a_part_alone_are_as_the_module_says() -> None:
    ours = module()
    for other in (ours.extended(np.full((3, ours.tokens.shape[1]), 2)), ours.alone("linear"), ours.alone("neural")):
        encoded = other.encode(histories(other.n_items))
        decoder = Decoder(other)
        found = decoder.decode(encoded)[:, decoder.columns]
        torch.testing.assert_close(found, other.decode(encoded), rtol=1e-4, atol=1e-4)


def test_so_many_members_at_once_that_their_scores_are_eight_megabytes() -> None:
    assert Decoder(module(40)).rows == 512
    assert Decoder(module(10_000, 10)).rows == 2**21 // 10_000
