"""The two-device check itself: it must see what it is there to see."""

import pytest
import torch
from device_check import TwoDevicesError, on_meta, one_device
from torch import nn


def test_sees_a_host_tensor_in_products_embeddings_and_gathers() -> None:
    weight, index = on_meta([torch.ones(4, 4), torch.ones(4, 4, dtype=torch.long)])
    host, host_index = torch.ones(4, 4), torch.zeros(4, 4, dtype=torch.long)
    for mixed in (
        lambda: weight @ host,
        lambda: nn.functional.embedding(host_index, weight),
        lambda: host.gather(0, index),
        lambda: weight[host_index],
        lambda: torch.cat([weight, host]),
    ):
        with one_device(), pytest.raises(TwoDevicesError):
            mixed()


def test_lets_one_device_scalars_and_transfers_pass() -> None:
    layer = on_meta(nn.Linear(4, 2))
    batch = on_meta({"x": torch.ones(3, 4)})
    with one_device():
        out = layer(batch["x"] * torch.tensor(2.0)) + torch.ones(2).to("meta")
        out.sum().backward()
    assert out.device.type == "meta"


def test_what_is_taken_to_the_host_stays_there_and_a_mask_chooses_everything() -> None:
    values = on_meta(torch.ones(3, 4, dtype=torch.float16))
    with one_device():
        chosen = values[values > 0]
        host = chosen.float().cpu()
        with pytest.raises(TwoDevicesError):
            host + chosen
    assert host.tolist() == [0.0] * 12
