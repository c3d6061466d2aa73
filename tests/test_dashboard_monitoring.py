"""What the dashboard says of readiness, of the gate, of drift and of model cards."""

import html
from collections.abc import Callable

from test_dashboard_pages import check_calm, opened

from data.dataset import Dataset


def test_a_dataset_says_whether_it_is_enough(small_dataset: Callable[..., Dataset]) -> None:
    small_dataset("demo", n_users=20, reviews=100)
    app = opened("datasets")
    text = html.unescape(check_calm(app))
    label = next(box.label for box in app.expander if box.label.startswith("Enough to learn from?"))
    assert (
        label
        == ("Enough to learn from? Yes for engagement forecast, thin for sentiment and retention, no for recommender")
        or "no for recommender" in label
    )
    assert "Members with two titles or more: 20, and at least 25 are needed" in text
    assert "python -m data ready demo" in text


def test_what_does_not_apply_is_no_alarm(small_dataset: Callable[..., Dataset]) -> None:
    small_dataset("demo", reviews=0)
    text = html.unescape(check_calm(opened("datasets")))
    assert "There are no reviews: import them with their text, and label or stars." in text
    assert "Does not apply" in text
