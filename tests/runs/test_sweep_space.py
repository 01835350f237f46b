"""What --sweep says, and which trials follow from it; everything wrong is refused before anything is made."""

from __future__ import annotations

import functools

import pytest

from tests.sources import ROOT
from trainyard.errors import UserError
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.runs.sweeps.objective import read_objective
from trainyard.runs.sweeps.sampling import drawn, grid
from trainyard.runs.sweeps.space import Dimension, filled, read_dimensions


@functools.cache
def recipe(name: str = "lora") -> Recipe:
    return load_recipe(ROOT, name)


def read(*texts: str, others: tuple[str, ...] = (), most: int = 100, of: str = "lora") -> tuple[Dimension, ...]:
    return read_dimensions(recipe(of), texts, others=others, most=most)


def test_values_are_named_as_set_names_them_and_ranges_keep_their_ends() -> None:
    rank, rate = read("lora_rank=8, 16,32", "lr=1e-5..1e-3:log:5")

    assert (rank.name, rank.values) == ("lora_rank", ("8", "16", "32"))
    assert (rate.name, rate.label) == ("learning_rate", "lr")
    assert rate.values == ("1e-05", "3.16228e-05", "0.0001", "0.000316228", "0.001")
    assert read("lora_dropout=0..0.5:3")[0].values == read("dropout=0..0.5:lin:3")[0].values == ("0", "0.25", "0.5")


def test_a_whole_variable_has_whole_values_each_once() -> None:
    assert read("rank=1..8:log:5")[0].values == ("1", "2", "3", "5", "8")
    assert list(read("rank=1..4")[0].each()) == ["1", "2", "3", "4"]


def test_a_comma_in_brackets_or_quotes_belongs_to_its_value() -> None:
    (layers,) = read("target_modules=[q_proj,v_proj],all-linear")
    assert layers.values == ("[q_proj,v_proj]", "all-linear")
    assert read("x='a,b',c", others=("{x}",), of="command")[0].values == ("a,b", "c")


def test_what_the_recipe_does_not_know_may_stand_in_the_command_in_braces() -> None:
    (rate,) = read("lr=1e-4..1e-2:log:2", others=("python", "train.py", "--lr", "{lr}"), of="command")

    assert not rate.is_variable and rate.values == ("0.0001", "0.01")
    assert filled("--lr {lr} {} {other}", {"lr": "1"}) == "--lr 1 {} {other}"


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (("lora_rnk=8,16",), "--sweep lora_rnk=8,16: recipe lora has no variable 'lora_rnk' (did you mean 'lora_rank'?)"),
        (("lora_rank=8,x",), "--sweep lora_rank=8,x: lora_rank must be a whole number, not 'x'"),
        (("lora_rank=8,2048",), "lora_rank must be at most 1024, not 2048"),
        (("lr=0..1e-3:log:5",), "a logarithmic range begins above 0, not at 0"),
        (("lr=0..1e-3",), "lr must be more than 0, not 0"),
        (("lr=1e-3..1e-5:log:5",), "a range begins with its smaller end, and 0.001 is not below 1e-05"),
        (("lr=1e-5...1e-3",), "'1e-5...1e-3' is no range"),
        (("lr=1e-5..1e-3:lgo:5",), "behind a range there is :log or :lin, and how many values"),
        (("lr=1e-5..1e-3:log:1",), "a range has 2 values or more, not 1"),
        (("lr=1e-5..1e-3:log:10000",), "10,000 values of one range are more than 100 trials"),
        (("lora_rank=1.5..8",), "its ends must be whole numbers"),
        (("lora_rank",), "write --sweep NAME=VALUES"),
        (("lora_rank=8,,16",), "a value is empty"),
        (("lora_rank=8,16,8",), "'8' is there twice"),
        (("lr=1e-4,0.0001",), "1e-4 is there twice"),
        (("lr=1e-4,1e-5", "learning_rate=1,0.5"), "learning_rate is varied by --sweep lr=1e-4,1e-5, too"),
        (("eval_dataset=a,b",), "write eval_file: FILE"),
    ],
)
def test_what_cannot_be_is_refused_with_its_words(texts: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError) as refused:
        read(*texts)
    assert says in str(refused.value)


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(UserError) as refused:
        read("lora_rank=x", "lr=0..1:log:3")
    assert "2 things that are varied are wrong" in str(refused.value) and "begins above 0" in str(refused.value)


def test_one_value_and_several_of_a_variable_are_refused_whatever_it_is_called() -> None:
    with pytest.raises(UserError, match=r"--set lr=\.\.\. says one value of it"):
        read("learning_rate=1e-4,1e-5", others=("lr=1e-3",))


def test_the_command_of_ones_own_is_shown_how_an_argument_is_varied() -> None:
    with pytest.raises(UserError) as refused:
        read("weight_decay=0,1", others=("python", "train.py"), of="command")
    assert "-- python train.py --weight-decay {weight_decay}" in str(refused.value)


def test_a_grid_is_every_combination_and_too_many_of_them_need_a_word() -> None:
    dimensions = read("lora_rank=8,16", "lr=1e-4,1e-3")

    assert [tuple(trial.values()) for trial in grid(dimensions, 100)] == [("8", "1e-4"), ("8", "1e-3"), ("16", "1e-4"), ("16", "1e-3")]
    with pytest.raises(UserError, match=r"2 x 2: 4 trials, and 3 are the most") as refused:
        grid(dimensions, 3)
    assert "--max-trials 4" in str(refused.value)
    with pytest.raises(UserError, match="--sweep lora_alpha: 10,000,000 trials"):
        grid(read("lora_alpha=1..10000000"), 100)
    with pytest.raises(UserError, match="a grid needs to know how many values") as endless:
        grid(read("lr=1e-5..1e-3:log"), 100)
    assert "--sweep lr=1e-5..1e-3:log:5" in str(endless.value)


def test_a_seed_draws_the_same_trials_again_each_once_and_within_its_range() -> None:
    dimensions = read("lr=1e-5..1e-3:log", "rank=4..64", "lora_dropout=0,0.1")
    trials = drawn(dimensions, 30, 7, 100)

    assert trials == drawn(dimensions, 30, 7, 100) != drawn(dimensions, 30, 8, 100)
    assert len({tuple(trial.values()) for trial in trials}) == 30
    assert all(1e-5 <= float(trial["learning_rate"]) <= 1e-3 and 4 <= int(trial["lora_rank"]) <= 64 for trial in trials)
    below = sum(float(trial["learning_rate"]) < 1e-4 for trial in trials)
    assert 8 <= below <= 22, "half of a logarithmic range lies below its middle"
    assert len(drawn(read("rank=1..6"), 6, 0, 100)) == 6
    with pytest.raises(UserError, match="there are only 6 combinations"):
        drawn(read("rank=1..6"), 7, 0, 100)
    with pytest.raises(UserError, match="--max-trials 10000"):
        drawn(dimensions, 10_000, 0, 100)
    with pytest.raises(UserError, match="has only 2 different values, as numbers have six digits"):
        drawn(read("lr=0.001..0.00100001"), 20, 0, 100)
    with pytest.raises(UserError, match="1 trial or more"):
        drawn(dimensions, 0, 0, 100)


def test_a_range_whose_ends_have_many_digits_is_not_left() -> None:
    (dimension,) = read("lr=0.00012345678..0.00123456789")
    span = dimension.span

    assert span is not None and [span.text_of(share) for share in (0.0, 0.5, 1.0)] == ["0.000123457", "0.000679012", "0.00123456789"]


def test_an_objective_is_a_figure_its_last_or_best_value_and_which_is_better() -> None:
    curve = ((1, 3.0), (2, 1.0), (3, 2.0))

    assert read_objective("loss").value(curve) == 2.0 and read_objective("eval_loss:best").value(curve) == 1.0
    accuracy = read_objective("accuracy:max:best")
    assert accuracy.value(curve) == 3.0 and sorted([1.0, None, 3.0], key=accuracy.rank) == [3.0, 1.0, None]
    assert sorted([1.0, None, 3.0], key=read_objective("loss").rank) == [1.0, 3.0, None] and accuracy.value(()) is None
    for wrong in ("", "loss:worst", "loss:min:max", "loss:best:last"):
        with pytest.raises(UserError, match="--objective"):
            read_objective(wrong)
