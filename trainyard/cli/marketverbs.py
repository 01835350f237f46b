"""The verbs about what clouds rent out, before anything is. Parsing only."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from trainyard.cli.common import context, help_of, optional_path, recipe_of, show_json, task, verb
from trainyard.errors import UserError
from trainyard.reading import Shape, read
from trainyard.settings.table import SETTINGS

if TYPE_CHECKING:
    from trainyard.runs.verbs.offers import Market, OfferSearch

_NO_CLOUD = 4
_MONEY = Shape(kind="number", least=0)
_SHAPES = {
    "count": SETTINGS["gpu_count"].shape, "vram": SETTINGS["min_vram_gb"].shape, "max-price": SETTINGS["max_price"].shape,
    "hours": Shape(kind="number", above=0, most=10_000), "disk": SETTINGS["disk_gb"].shape, "limit": Shape(kind="whole", least=0),
    "wait": Shape(kind="number", above=0, most=600), "buy": _MONEY, "watts": _MONEY, "kwh": _MONEY,
}  # fmt: skip
_FILTERS = {
    "gpu": "a type of GPU by any of its names (may be repeated; default: every type with enough memory)",
    "count": "GPUs of a pod (default: 1)",
    "vram": "memory of each GPU at least, GB",
    "max_price": "dollars an hour of the whole pod at most",
    "disk": "disk of the pod, GB (default: as a stack's disk_gb)",
    "spot": "interruptible ones only",
    "region": "a region as the cloud calls it (may be repeated)",
    "cloud": "ask no other cloud (may be repeated; default: all whose keys are set)",
    "wait": "seconds that clouds have for their answers (default: 15, and 3 after another's answer)",
}


@task(
    iterable=["gpu", "region", "cloud"],
    help=help_of(
        "json", **_FILTERS,
        hours="length of the run that the cost is told for (default: 1)",
        limit="how many are shown at most, the cheapest (default: 20; 0 means all)",
    ),
)  # fmt: skip
@verb
def offers(
    c: Context, gpu: Any = None, count: str | None = None, vram: str | None = None, max_price: str | None = None,
    hours: str | None = None, disk: str | None = None, spot: bool = False, region: Any = None, cloud: Any = None,
    limit: str | None = None, wait: str | None = None, json: bool = False,
) -> int:  # fmt: skip
    """Show what all clouds rent out now, in one table, by what a run on it costs; one cloud down never hides the others."""
    from trainyard.runs.verbs.offers import SHOWN, lines, search_offers

    search = _search(gpu, region, cloud, spot, count=count, vram=vram, max_price=max_price, disk=disk, wait=wait, hours=hours)
    most = SHOWN if limit is None else int(_number("limit", limit))
    work = context(as_json=json, anywhere=True)
    market = search_offers(work, search)
    if json:
        show_json({**asdict(market), "offers": [{**asdict(one), "dollars": one.dollars} for one in market.offers]})
    else:
        work.ui.say("\n".join(lines(market, most)))
    return _status(market)


@task(
    iterable=["gpu", "region", "cloud"],
    help=help_of(
        "json", **(_FILTERS | {"gpu": "a type of GPU by any of its names (may be repeated; default: those that people ask for most)"}),
        hours="lengths of runs, separated by commas (default: 2,8,24)",
        buy="dollars that a machine of one's own with that --gpu costs: tells after how many hours of training it pays",
        watts="what that machine draws while it trains (default: 500)",
        kwh="dollars of a kilowatt-hour (default: 0.30)",
    ),
)  # fmt: skip
@verb
def costs_table(
    c: Context, gpu: Any = None, count: str | None = None, vram: str | None = None, max_price: str | None = None,
    hours: str = "2,8,24", disk: str | None = None, spot: bool = False, region: Any = None, cloud: Any = None,
    buy: str | None = None, watts: str = "500", kwh: str = "0.30", wait: str | None = None, json: bool = False,
) -> int:  # fmt: skip
    """Show each GPU's cheapest offer at each cloud, what runs of 2, 8 and 24 hours cost there, and whether buying one pays."""
    from trainyard.runs.verbs.pricetable import COMMON, Purchase, lines, price_table

    lengths = tuple(_number("hours", length.strip()) for length in hours.split(","))
    search = _search(gpu or COMMON, region, cloud, spot, count=count, vram=vram, max_price=max_price, disk=disk, wait=wait)
    own = None
    if buy is not None:
        if len(gpu or ()) != 1:
            raise UserError("--buy is the price of a machine with one type of GPU: say which", hint="Like: --gpu RTX_4090 --buy 2500")
        own = Purchase(dollars=_number("buy", buy), watts=_number("watts", watts), per_kwh=_number("kwh", kwh))
    work = context(as_json=json, anywhere=True)
    table = price_table(work, search, lengths, own)
    if json:
        show_json({name: part for name, part in asdict(table).items() if name != "market"})
    else:
        work.ui.say("\n".join(lines(table)))
    return _status(table.market)


@task(
    positional=["base"],
    iterable=["set"],
    help=help_of(
        "recipe", "data", "config", "set", "json",
        base="a model of the Hugging Face Hub, or a folder with its config.json",
        offline="ask no cloud what it has: times alone, on common GPUs",
    ),
)  # fmt: skip
@verb
def fit(
    c: Context, base: str, recipe: str | None = None, data: str | None = None, config: str | None = None, set: Any = None,
    offline: bool = False, json: bool = False,
) -> int:  # fmt: skip
    """Show what a training of a base needs, part by part, and where it fits, how long it takes there and what it costs."""
    from trainyard.runs.verbs.fit import FitRequest, lines
    from trainyard.runs.verbs.fit import fit as reckon

    work = context(as_json=json)
    named = recipe_of(recipe, config)
    request = FitRequest(base=base, recipe=named, config=optional_path(config), sets=tuple(set or ()), data=data, ask=not offline)
    result = reckon(work, request)
    if json:
        show_json(result.as_json())
    else:
        work.ui.say("\n".join(lines(result)))
    return 0


@task(
    help=help_of(
        "json",
        check="ask each cloud whose keys are set for its pods and its balance, all at once",
        wait="seconds that clouds have for their answers (default: 15)",
    )
)
@verb
def clouds(c: Context, check: bool = False, wait: str = "15", json: bool = False) -> int:
    """Show all clouds: whether their keys are set, what each can do and, with --check, whether it answers."""
    from trainyard.runs.verbs.clouds import abilities, all_clouds, lines
    from trainyard.settings.clouds import problems

    work = context(as_json=json, anywhere=True)
    states = all_clouds(work, check=check, patience=_number("wait", wait))
    if json:
        rows = [
            {
                "cloud": state.entry.name, "title": state.entry.title, "keys": state.keys, "missing": state.missing,
                "unnamed": state.unnamed,
                "added": state.added, **abilities(state.entry), "check": None if state.check is None else asdict(state.check),
            }
            for state in states
        ]  # fmt: skip
        show_json({"clouds": rows, "problems": [asdict(problem) for problem in problems()]})
    else:
        work.ui.say("\n".join(lines(states)))
    return _NO_CLOUD if any(state.answered is False for state in states) else 0


def _search(gpus: Any, regions: Any, clouds: Any, spot: bool, **numbers: str | None) -> OfferSearch:
    from trainyard.runs.verbs.offers import OfferSearch

    said = {name: _number(name.replace("_", "-"), value) for name, value in numbers.items() if value is not None}
    plain = OfferSearch()
    return OfferSearch(
        gpus=tuple(gpus or ()), regions=tuple(regions or ()), clouds=tuple(clouds or ()), spot=spot,
        gpu_count=int(said.get("count", plain.gpu_count)), vram_gb=said.get("vram"), max_price=said.get("max_price"),
        hours=said.get("hours", plain.hours), disk_gb=int(said.get("disk", plain.disk_gb)), patience=said.get("wait", plain.patience),
        grace=None if "wait" in said else plain.grace,
    )  # fmt: skip


def _number(option: str, value: str) -> float:
    return float(str(read(_SHAPES[option], value, f"--{option}")))


def _status(market: Market) -> int:
    """Return the exit code: that of a cloud's trouble where not one has answered."""
    return 0 if market.answered else _NO_CLOUD
