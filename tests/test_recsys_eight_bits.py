"""A matrix in eight bits: how far off it is, and that every way to read it says the same."""

import pytest
import torch
import torch.nn.functional as F

from recsys.eight_bits import EXTRA, EightBits
from recsys.windows import Bags, fading_windows


def matrix(rows: int = 7, width: int = 33) -> torch.Tensor:
    """Rows of different sizes; one of them constant, one zero."""
    torch.manual_seed(0)
    found = torch.randn(rows, width) * 10.0 ** torch.arange(-3, rows - 3)[:, None]
    found[2], found[3] = 0.25, 0.0
    return found


def test_an_entry_is_off_by_half_a_step_of_its_row_at_most() -> None:
    exact = matrix()
    found = EightBits.of(exact).numbers()
    step = (exact.amax(1, keepdim=True).clamp_min(0) - exact.amin(1, keepdim=True).clamp_max(0)) / 254
    assert ((found - exact).abs() <= 0.501 * step + 1e-7).all()
    assert (found - exact).abs().max() > 0  # it is no copy
    assert (found[3] == 0).all()
    torch.testing.assert_close(found[2], exact[2])


@pytest.mark.parametrize("offset", [-2.0, 0.0, 0.3, 2.0])
def test_what_is_nothing_stays_nothing(offset: float) -> None:
    """A title without events has a column of zeros: their sum must not be half a step of each row."""
    torch.manual_seed(1)
    exact = torch.randn(40, 300) + offset
    exact[:, 7] = 0.0
    eight = EightBits.of(exact)
    assert (eight.numbers()[:, 7] == 0).all()
    assert (eight.entries(torch.arange(40), torch.tensor([7])) == 0).all()
    sums = eight.sums(torch.arange(40), torch.tensor([0, 40]), torch.ones(40))
    assert abs(float(sums[0, 7])) < 1e-5
    assert (eight.packed[:, :-EXTRA].amax(1) >= 250).all()  # and the codes are all made use of


def test_no_bytes_are_zeros() -> None:
    assert (EightBits(torch.zeros(3, 5 + EXTRA, dtype=torch.uint8)).numbers() == 0).all()


def test_entries_and_sums_are_of_the_same_numbers() -> None:
    eight = EightBits.of(matrix())
    numbers = eight.numbers()
    rows, columns = torch.tensor([[0, 3], [6, 1]]), torch.tensor([[32, 0], [5, 5]])
    assert (eight.entries(rows, columns) == numbers[rows, columns]).all()
    assert (eight.entries(rows[:, :, None], columns[:, None]) == numbers[rows[:, :, None], columns[:, None]]).all()
    flat, offsets = torch.tensor([0, 3, 6, 6, 1]), torch.tensor([0, 2, 2, 5])  # the second sum is of nothing
    weights = torch.rand(5)
    expected = torch.stack([(weights[a:b, None] * numbers[flat[a:b]]).sum(0) for a, b in ((0, 2), (2, 2), (2, 5))])
    torch.testing.assert_close(eight.sums(flat, offsets, weights), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("eight", [False, True])
def test_bags_are_fading_sums_of_rows(eight: bool) -> None:
    table = matrix()
    table = EightBits.of(table).numbers()
    rows = torch.tensor([[1, 4, 0], [5, 5, 5], [2, 6, 4]])
    known = torch.tensor([[True, False, True], [False, False, False], [False, True, True]])
    powers = torch.tensor([0.0, 0.7])
    bags = Bags.of(rows, known, powers)
    assert bags.rows.tolist() == [1, 0, 6, 4]
    weights = fading_windows(powers, 3, 1)[:, 0]  # (rates, events)
    expected = torch.einsum("re,be,bed->rbd", weights, known.float(), table[rows])
    whole = EightBits.of(table) if eight else table
    torch.testing.assert_close(bags.sums(whole), expected, rtol=1e-5, atol=1e-4)
    for first, last in ((0, 1), (1, 2), (1, 3), (0, 3)):
        some = bags.block(first, last).sums(whole)
        torch.testing.assert_close(some, expected[:, first:last], rtol=1e-5, atol=1e-4)


def test_sums_on_another_device_are_made_of_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """FBGEMM's sums are for CPUs: elsewhere torch's own embedding_bag adds the numbers up."""
    asked: list[torch.device] = []
    embedding_bag = F.embedding_bag

    def spy(rows: torch.Tensor, table: torch.Tensor, *args: object, **settings: object) -> torch.Tensor:
        asked.append(table.device)
        return embedding_bag(rows, table, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "embedding_bag", spy)
    meta = EightBits(EightBits.of(matrix()).packed.to("meta"))
    rows, offsets = torch.tensor([0, 1], device="meta"), torch.tensor([0, 2], device="meta")
    assert meta.sums(rows, offsets, torch.ones(2, device="meta")).shape == (1, 33)
    assert [device.type for device in asked] == ["meta"]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_other_floating_types_are_taken(kind: torch.dtype) -> None:
    eight = EightBits.of(matrix().to(kind))
    assert eight.packed.shape == (7, 33 + EXTRA)
    rows, offsets = torch.tensor([0, 1]), torch.tensor([0, 2])
    torch.testing.assert_close(eight.sums(rows, offsets, torch.ones(2, dtype=kind))[0], eight.numbers()[:2].sum(0))


@pytest.mark.parametrize("width", [1, 8, 33, 40])
def test_tiles_are_the_matrix_column_by_column(width: int) -> None:
    whole = EightBits.of(matrix())
    tiles = whole.tiles(width)
    assert len(tiles) == -(-33 // width)
    assert torch.equal(torch.cat([tile.numbers() for tile in tiles], 1), whole.numbers())
    rows, offsets, weights = torch.tensor([0, 3, 5, 6]), torch.tensor([0, 1, 4]), torch.rand(4)
    sums = torch.cat([tile.sums(rows, offsets, weights) for tile in tiles], 1)
    torch.testing.assert_close(sums, whole.sums(rows, offsets, weights))
