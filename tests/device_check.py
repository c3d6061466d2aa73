"""The two-device check: run a step with module and batch on the meta device and catch every tensor left on the host.

The meta device alone proves little: a CPU tensor passes silently through matrix products, embeddings and gathers.
Here every operator is looked at, and one whose tensors lie on two devices raises, as it would on a GPU. What a step
takes to the host on purpose (`.cpu()`) arrives there as zeros, and a mask chooses everything, because a tensor on the
meta device has no values.

    from device_check import on_meta, one_device

    module, batch = on_meta(module), on_meta(batch)
    with one_device():
        module.training_step(batch, 0).backward()
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as meta_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

# What moves a tensor from one device to the other on purpose.
_TRANSFERS = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class TwoDevicesError(AssertionError):
    """An operator met tensors of two devices."""


class _OneDevice(TorchDispatchMode):
    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # A scalar on the host may join any tensor: torch moves it along.
        found = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.dim() > 0}
        if len(found) > 1 and operator not in _TRANSFERS:
            raise TwoDevicesError(f"{operator} met tensors on {' and '.join(sorted(found))}")
        if operator is _TRANSFERS[0] and args[0].is_meta and kwargs.get("device") == torch.device("cpu"):
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return operator(*args, **kwargs)


@contextmanager
def one_device() -> Iterator[None]:
    """Raise TwoDevicesError at the first operator whose non-scalar tensors lie on two devices."""
    with meta_config.patch(meta_nonzero_assume_all_nonzero=True), _OneDevice():
        yield


def on_meta(thing: Any) -> Any:
    """A module, or any nest of dicts, lists and tuples, with its tensors on the meta device."""
    if isinstance(thing, nn.Module):
        return thing.to("meta")
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), thing)
