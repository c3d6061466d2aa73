"""What the two data modules share."""

from typing import Any


def as_it_is(batch: Any) -> Any:
    """The `collate_fn` of a dataset that makes whole batches itself (`__getitems__`)."""
    return batch
