"""The nearest word, and bytes as people read them."""

from __future__ import annotations

import pytest

from trainyard.nearest import suggest
from trainyard.sizes import human_size


def test_the_nearest_word_is_named_and_a_far_one_is_not() -> None:
    assert suggest("max_prize", ["gpu", "max_price", "hours"]) == " (did you mean 'max_price'?)"
    assert suggest("colour", ["gpu", "hours"]) == ""
    assert suggest("--nam", ["--hours", "--name"]) == " (did you mean '--name'?)"
    assert suggest("--bogus", ["--hours", "--name"]) == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (33041, "33.0 kB"), (999_960, "1.0 MB"), (5.4e9, "5.4 GB"), (2e15, "2000.0 TB")],
)
def test_bytes_have_the_unit_that_fits(count: float, text: str) -> None:
    assert human_size(count) == text
