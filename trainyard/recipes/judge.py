"""What tells of a row what it means, as the recipe's own program does on the pod."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainyard.recipes.articles import Article, understand_article
from trainyard.recipes.contract import Recipe
from trainyard.recipes.forms import Row, understand
from trainyard.recipes.preferences import Pair, understand_pair

Judge = Callable[[Any], Row | Pair | Article]


def judge_of(recipe: Recipe, values: Mapping[str, object]) -> Judge:
    """Return the judge of a recipe's rows; ``values`` may name columns, and those to be left out."""
    asked = values.get("ignore_columns")
    ignored = tuple(asked) if isinstance(asked, list) else ()
    if recipe.form == "summary":
        return lambda fields: understand_article(fields, values, ignored)
    if values.get("method") == "dpo":
        return lambda fields: understand_pair(fields, lambda each: understand(each, ignored))
    return lambda fields: understand(fields, ignored)
