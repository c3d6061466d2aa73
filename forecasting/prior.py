"""The forecaster before it has seen a dataset: trained once on made-up series and kept.

The weights depend on the frequency, the horizon and the network's size alone, so they are kept under `priors/` in
MARQUEE_HOME and used by every later training of the same shape. Training takes under a minute on two cores for daily
series.
"""

import hashlib
import inspect
from collections.abc import Mapping

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from data import home
from data.atomic import atomic_file
from forecasting import experts, forecaster, synthetic
from forecasting.forecaster import Forecaster, loss_of, read
from forecasting.frequency import Frequency
from forecasting.synthetic import synthetic_windows

_LEARNING_RATE, _WEIGHT_DECAY, _WARM_UP = 5e-3, 1e-2, 0.2
_STEPS_IN_A_BATCH = 16_000  # context steps: 128 windows of daily series, fewer where contexts are longer


def prior_weights(
    frequency: Frequency, horizon: int, hidden_size: int, n_layers: int, n_steps: int, device: torch.device
) -> Mapping[str, Tensor]:
    """State of a `Forecaster` trained for `n_steps` batches of made-up windows; from disk if it was made before
    and is whole.

    The caller's random numbers are left alone, and the same arguments give the same weights.
    """
    code = "".join(inspect.getsource(module) for module in (experts, forecaster, synthetic)) + inspect.getsource(train)
    asked = (frequency, horizon, hidden_size, n_layers, n_steps, code)
    key = hashlib.sha256(repr(asked).encode()).hexdigest()[:16]
    path = home.priors() / f"{frequency.name}-{key}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # several processes of one training ask at once
        try:
            return load_file(path)
        except (FileNotFoundError, SafetensorError):  # it was not made before, or is damaged
            net = train(frequency, horizon, hidden_size, n_layers, n_steps, device)
            with atomic_file(path) as temporary:
                save_file({name: value.cpu().contiguous() for name, value in net.state_dict().items()}, temporary)
        return load_file(path)


def train(
    frequency: Frequency, horizon: int, hidden_size: int, n_layers: int, n_steps: int, device: torch.device
) -> Forecaster:
    """A network trained on made-up windows: AdamW with a one-cycle schedule (Smith & Topin 2019)."""
    batch_size = max(16, min(128, _STEPS_IN_A_BATCH // (frequency.context + horizon)))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        net = Forecaster(frequency, hidden_size, n_layers, dropout=0.0).to(device).train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _LEARNING_RATE, total_steps=n_steps + 1, pct_start=_WARM_UP
        )
        about = f"learning from made-up {frequency.name} series"
        for _ in tqdm(range(n_steps), about, unit=" batches", mininterval=2, leave=False, ncols=80):
            batch = synthetic_windows(batch_size, frequency, horizon, device)
            window = read(batch, frequency)
            z, factor = net(window, batch["phase"])
            loss = loss_of(window, z, factor, batch["target"]).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return net.eval()
