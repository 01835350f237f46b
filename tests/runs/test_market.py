"""All clouds are asked at once: what they offer stands in one table, and what one of them lacks is said."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.yard import Yard
from tests.faults.world import STACK, World, world
from tests.here import Here
from tests.leases.model_cloud import ModelCloud
from trainyard.clouds.protocol import Cloud, Offer, OfferQuery
from trainyard.config import places
from trainyard.errors import CloudError, CloudUnknown, NoCapacity, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.market import CloudReply, Question, ask, cheapest_first, types_with
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import auto
from trainyard.runs.verbs.auto import StackOffers, rank
from trainyard.runs.verbs.offers import Market, OfferSearch, lines, search_offers
from trainyard.runs.verbs.pricetable import Purchase
from trainyard.runs.verbs.train import TrainRequest
from trainyard.settings.clouds import entries
from trainyard.settings.ofcloud import unsaid

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "tests/recipes/data/shapes.jsonl"
QUERY = OfferQuery(gpus=("H100",))


class Shop(ModelCloud):
    """A cloud with one offer at a price, or with trouble."""

    def __init__(self, price: float = 1.0, trouble: Callable[[], object] = lambda: None) -> None:
        self.price, self.trouble = price, trouble

    def offers(self, query: OfferQuery) -> list[Offer]:
        self.trouble()
        return [Offer("one", "shop", "NVIDIA H100 PCIe", 2, self.price)]

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        return 0.5


def question(cloud: Cloud, hours: float = 1.0) -> Question:
    return Question(opener=lambda: cloud, query=QUERY, hours=hours)


def raising(error: Exception) -> Callable[[], object]:
    def trouble() -> object:
        raise error

    return trouble


def test_a_cloud_that_is_silent_or_broken_never_hides_the_others() -> None:
    stuck = threading.Event()
    replies = ask(
        {
            "silent": question(Shop(trouble=lambda: stuck.wait(30))),
            "dear": question(Shop(4.0)),
            "down": question(Shop(trouble=raising(CloudUnknown("it keeps failing")))),
            "faulty": question(Shop(trouble=raising(KeyError("price")))),
            "cheap": question(Shop(2.0)),
        },
        patience=0.2,
    )
    stuck.set()
    assert [(one.cloud, one.problem) for one in replies] == [
        ("silent", "no answer within 0.2 s"), ("dear", None), ("down", "it keeps failing"), ("faulty", "KeyError: 'price'"),
        ("cheap", None),
    ]  # fmt: skip
    assert [(one.cloud, one.per_hour) for one in cheapest_first(replies)] == [("cheap", 2.5), ("dear", 4.5)]


def test_clouds_are_asked_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)
    replies = ask({name: question(Shop(trouble=together.wait)) for name in "abc"})
    assert [reply.problem for reply in replies] == [None, None, None]


def test_a_silent_cloud_is_waited_for_only_a_little_longer_than_the_others() -> None:
    stuck = threading.Event()
    silent = question(Shop(trouble=lambda: stuck.wait(30)))
    replies = ask({"silent": silent, "quick": question(Shop(2.0))}, patience=29, grace=0.05)
    stuck.set()
    assert [one.problem is None for one in replies] == [False, True]
    assert "(--wait 29)" in str(replies[0].problem) and replies[0].seconds < 20


def test_an_answer_that_is_trouble_shortens_nobodys_time() -> None:
    first = threading.Event()

    def down() -> object:
        first.set()
        raise CloudUnknown("down")

    late = question(Shop(trouble=lambda: first.wait(20)))
    replies = ask({"late": late, "down": question(Shop(trouble=down))}, patience=29, grace=0.0)
    assert [one.problem for one in replies] == [None, "down"]


def test_memory_that_only_a_name_states_is_told() -> None:
    class Odd(Shop):
        def offers(self, query: OfferQuery) -> list[Offer]:
            return [Offer("one", "shop", "Z900 (24 GB PCIe)", 1, 1.0), Offer("two", "shop", "A10 (24 GB PCIe)", 1, 1.0)]

    (reply,) = ask({"shop": question(Odd())})
    assert [(one.gpu, one.vram_gb) for one in reply.offers] == [("Z900 (24 GB PCIe)", 24), ("A10", 24)]


def test_an_offer_costs_its_price_and_its_disks_for_the_hours_of_the_run() -> None:
    (reply,) = ask({"shop": question(Shop(2.0), hours=8)})
    (one,) = reply.offers
    assert (one.machine, one.vram_gb, one.per_hour, one.dollars) == ("2x H100 PCIe", 80, 2.5, 20.0)


def test_memory_alone_names_the_types_that_have_it() -> None:
    assert "RTX 4090" in types_with(24)
    assert "RTX 4080" not in types_with(24)
    assert types_with(24)[0] == "RTX 3090"


def test_the_table_says_what_is_not_known_and_who_was_not_asked() -> None:
    replies = (*ask({"shop": question(Shop(2.0))}), CloudReply(cloud="down", problem="it keeps failing"))
    text = list(lines(Market(search=OfferSearch(), replies=replies, without_keys=("vast",))))
    assert "2x H100 PCIe" in text[1]
    assert text[-2:] == ["not known: down: it keeps failing", "not asked, no key is set: vast"]
    assert max(map(len, text)) <= 80


@pytest.mark.parametrize(
    ("replies", "says"),
    [
        ((CloudReply(cloud="local"),), "no cloud was asked: no key of one is set here. Set one: invoke setup --all"),
        ((CloudReply(cloud="local"), CloudReply(cloud="down", problem="it keeps failing")), "not one cloud has answered"),
        ((CloudReply(cloud="local"), CloudReply(cloud="up")), "no cloud that was asked has such an offer now"),
    ],
)
def test_an_empty_table_says_whether_anybody_was_asked(replies: tuple[CloudReply, ...], says: str) -> None:
    market = Market(search=OfferSearch(), replies=replies, without_keys=("vast",))
    assert next(iter(lines(market))) == says and market.answered == (replies[-1].cloud == "up")


def test_without_any_key_the_exit_code_is_that_of_no_answer(here: Here, tmp_path: Path) -> None:
    for verb in ("offers", "costs.table"):
        code, out, _ = here.run(tmp_path, verb)
        assert code == 4 and "invoke setup --all" in out


def test_buying_pays_once_what_is_saved_each_hour_has_paid_for_it() -> None:
    own = Purchase(dollars=2000, watts=500, per_kwh=0.30)
    assert own.hours_to_break_even(0.65) == pytest.approx(4000)
    assert own.hours_to_break_even(0.15) is None


@pytest.fixture(scope="module")
def cloud_world() -> Iterator[World]:
    """One emulated account."""
    with world() as made:
        yield made


def stacks(yard: Yard, **prices: str) -> None:
    """Make a stack for each, of one GPU."""
    text = (yard.root / f"Pulumi.{STACK}.yaml").read_text()
    (yard.root / f"Pulumi.{STACK}.yaml").unlink()
    for name, gpu in prices.items():
        (yard.root / f"Pulumi.{name}.yaml").write_text(text.replace("NVIDIA RTX A4000", gpu))


def test_a_run_goes_to_the_cheapest_stack_and_on_to_the_next_when_that_is_sold_out_after_all(cloud_world: World) -> None:
    yard = cloud_world.yard()
    stacks(yard, dear="RTX 4090", cheap="NVIDIA RTX A4000", away="H100")
    (yard.root / "Pulumi.away.yaml").write_text("config:\n  trainyard:cloud: nowhere\n")
    offers = len(yard.cloud.offers(OfferQuery(gpus=("NVIDIA RTX A4000",), max_price=4)))
    cloud_world.emulator.faults.on("create-no-capacity", times=offers)
    words = [word if word != STACK else "auto" for word in yard.train("--name", "a", "--json", steps=2)]
    done = yard.invoke(*words).expect()
    summary = json.loads(done.out)
    assert (summary["stack"], summary["attempt"], summary["success"]) == ("dear", 2, True)
    assert "auto       cheap (1x RTX A4000" in done.err
    assert "auto       not away: " in done.err
    assert cloud_world.pods() == []


def test_auto_ranks_stacks_by_the_cheapest_finish_where_one_leaves_its_gpus_to_the_run(cloud_world: World, tmp_path: Path) -> None:
    yard = cloud_world.yard()
    stacks(yard, small="RTX 4090", any="auto")
    row = next(line for line in SHAPES.read_text().splitlines() if '"Llama-3.1-8B"' in line)
    (tmp_path / "config.json").write_text(json.dumps(json.loads(row)["config"]))
    context = CommandContext(places(yard.root, yard.env), yard.env, Ui())
    rows, base = ROOT / "templates/lora/sample.jsonl", f"base_model={tmp_path}"

    def ranked(*sets: str) -> list[StackOffers]:
        asked = TrainRequest(stack="auto", recipe="lora", data=str(rows), sets=(base, "load_in_4bit=false", *sets))
        return rank(context, asked)

    first, second = ranked("max_steps=20000")
    assert first.stack == "any" and first.finish is not None and second.finish is not None and first.finish < second.finish
    assert first.offers[0].dollars > second.offers[0].dollars, "the dearer GPU is done sooner"
    assert "RTX A4000" not in [one.gpu for one in first.offers], "it does not fit there"
    short, _ = ranked("max_steps=1")
    assert short.offers[0].per_hour < first.offers[0].per_hour, "of a short one boot and download are most"


def test_a_price_of_buying_needs_the_gpu_that_is_bought(tmp_path: Path, cloud_world: World) -> None:
    done = cloud_world.yard().invoke("costs.table", "--buy", "2000").expect(2)
    assert "--gpu" in done.err


def test_an_unknown_gpu_and_an_unknown_cloud_are_named_before_anybody_is_asked(cloud_world: World) -> None:
    yard = cloud_world.yard()
    assert "RTX 5090" in yard.invoke("offers", "--gpu", "RTX5900").expect(2).err
    assert "runpod" in yard.invoke("offers", "--cloud", "runpot").expect(2).err
    said = json.loads(yard.invoke("offers", "--vram", "80", "--hours", "2", "--json").expect().out)
    assert said["offers"][0]["dollars"] == pytest.approx(2 * said["offers"][0]["per_hour"])
    assert UserError.exit_code == 2


def test_a_cloud_that_no_stack_names_the_machines_of_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.ssh.yaml").write_text("config:\n  trainyard:cloud: ssh\n  trainyard:hosts: []\n")
    context = CommandContext(places(tmp_path, {"HOME": str(tmp_path)}), {"HOME": str(tmp_path)}, Ui())
    market = search_offers(context, OfferSearch(clouds=(), patience=5))
    assert market.unnamed == {"ssh": ("hosts",), "slurm": ("login",)}
    assert "not asked, no stack names them: ssh (hosts), slurm (login)" in list(lines(market))
    with pytest.raises(UserError, match="no stack here says login"):
        search_offers(context, OfferSearch(clouds=("slurm",)))
    (tmp_path / "Pulumi.lab.yaml").write_text("config:\n  trainyard:cloud: ssh\n  trainyard:hosts: [gpu1]\n")
    assert unsaid(tmp_path, entries()["ssh"]) == ()


def test_auto_does_not_say_that_nothing_is_to_be_had_where_no_cloud_has_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: trainyard\n")
    for cloud in ("lambda", "prime"):
        (tmp_path / f"Pulumi.{cloud}.yaml").write_text(f"config:\n  trainyard:cloud: {cloud}\n  trainyard:gpu: [H100]\n")
    env = {"LAMBDA_API_KEY": "k-0123456789", "PRIME_API_KEY": "k-0123456789"}
    replies = [CloudReply(cloud="lambda", problem="its key is refused"), CloudReply(cloud="prime", problem="no answer")]
    monkeypatch.setattr(auto, "ask", lambda questions: replies)
    asked = TrainRequest(stack="auto", recipe="lora", data="sample.jsonl"), CommandContext(places(tmp_path, env), env, Ui())
    with pytest.raises(CloudError, match="is not known: nothing that can be used came from lambda, prime") as told:
        rank(asked[1], asked[0])
    assert not isinstance(told.value, NoCapacity) and "invoke clouds --check" in str(told.value.hint)
    replies[1] = CloudReply(cloud="prime")
    with pytest.raises(NoCapacity, match="no stack has a pod for this run now; whether lambda would is not known"):
        rank(asked[1], asked[0])


def test_auto_leaves_out_a_cloud_without_ssh_where_there_is_no_bucket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: trainyard\n")
    (tmp_path / "Pulumi.ionet.yaml").write_text("config:\n  trainyard:cloud: ionet\n  trainyard:gpu: [RTX 4090]\n")
    env = {"IOCLOUD_API_KEY": "io-v2-0123456789", "IOCLOUD_API_URL": "http://127.0.0.1:9"}
    with pytest.raises(UserError, match="no stack of a cloud can be asked") as told:
        rank(CommandContext(places(tmp_path, env), env, Ui()), TrainRequest(stack="auto", recipe="lora", data="sample.jsonl"))
    assert "invoke setup --all" in str(told.value.hint)
    assert "not ionet: pods of ionet have no SSH" in " ".join(capsys.readouterr().out.split())
