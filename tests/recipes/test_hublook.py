"""A base is looked up at the Hub before anything is rented: what is certain is an error, what is not known stops nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recipes.hub import STRANGER, TOKEN, Hub, Model
from trainyard.errors import UserError
from trainyard.recipes.fit.hub import HubAnswer, ask

CONFIGS = {
    row["name"]: row["config"] for row in map(json.loads, (Path(__file__).parent / "data" / "shapes.jsonl").read_text().splitlines())
}
LLAMA = CONFIGS["Llama-3.1-8B"] | {"architectures": ["LlamaForCausalLM"]}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(
        {
            "meta/Open-8B": Model(LLAMA, more={"cardData": {"license": "llama3.1"}}),
            "meta/Gated-8B": Model(LLAMA, gated=True),
            "me/Own": Model(LLAMA, private=True),
            "x/Odd": Model(
                {"model_type": "mamba9", "hidden_size": 8}, more={"safetensors": {"total": 1234567, "parameters": {"BF16": 1234567}}}
            ),
            "x/Packed": Model({"model_type": "mamba9", "quantization_config": {}}, more={"safetensors": {"total": 77}}),
            "x/Encoder": Model(LLAMA | {"architectures": ["BertForMaskedLM"]}),
            "x/Adapter": Model(None, files=("adapter_config.json", "adapter_model.safetensors")),
            "x/GGUF": Model(None, files=("x-Q4_K_M.gguf",)),
            "x/Pipeline": Model(None, gated=True, files=("model_index.json", "unet/config.json")),
            "x/Nothing": Model(None, files=("README.md",)),
        }
    ) as server:
        yield server
        server.shutdown()


def asked(hub: Hub, name: str, token: str = "") -> HubAnswer:
    return ask(name, {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token})


def test_an_open_base_is_told_with_its_exact_size_its_layers_and_its_licence(hub: Hub) -> None:
    told = asked(hub, "meta/Open-8B")
    assert told.base is not None and told.base.parameters == 8030261248 and told.base.source == "its config.json at the Hub"
    assert "model.layers.31.mlp.gate_proj" in told.base.layers
    assert (told.revision, told.licence, told.needs_token, told.unknown) == ("a" * 40, "llama3.1", False, "")
    assert hub.seen == ["/api/models/meta/Open-8B", f"/meta/Open-8B/resolve/{'a' * 40}/config.json"], "the config is of that revision"


def test_a_gated_or_private_base_is_told_to_who_may_see_it(hub: Hub) -> None:
    assert asked(hub, "meta/Gated-8B", TOKEN).gated and asked(hub, "me/Own", TOKEN).private


@pytest.mark.parametrize(
    ("name", "token", "says", "hint"),
    [
        ("meta/None-8B", "", "there is no model http", "HF_TOKEN"),
        ("meta/None-8B", TOKEN, "there is no model http", "may not see it"),
        ("me/Own", "", "there is no model http", "private"),
        ("meta/Gated-8B", "", "is gated: only who has accepted", "pod_secrets"),
        ("meta/Gated-8B", STRANGER, "has no access", "Accept its terms"),
        ("meta/Open-8B", "hf_wrong", "does not know this HF_TOKEN", "/settings/tokens"),
        ("x/Encoder", "", "BertForMaskedLM: it writes no text", "ForCausalLM"),
        ("x/Adapter", "", "is an adapter, not a base", "init_from"),
        ("x/GGUF", "", "GGUF files", "made from"),
        ("x/Nothing", "", "no config.json", ""),
        ("x/Pipeline", TOKEN, "is a pipeline of diffusers, which makes images", "simpletuner"),
    ],
)
def test_what_is_certain_is_refused_with_what_to_do(hub: Hub, name: str, token: str, says: str, hint: str) -> None:
    with pytest.raises(UserError) as refused:
        asked(hub, name, token)
    assert says in refused.value.message and hint in (refused.value.hint or "") and "hf_" not in str(refused.value)


def test_a_base_of_pictures_is_asked_for_its_access_and_its_licence_alone(hub: Hub) -> None:
    env = {"HF_ENDPOINT": hub.endpoint}
    answer = ask("x/Pipeline", {**env, "HF_TOKEN": TOKEN}, pictures=True)
    assert answer.needs_token and answer.base is not None and answer.base.parameters is None
    for name, says in (("x/Pipeline", "is gated: only who has accepted"), ("x/None", "there is no model")):
        with pytest.raises(UserError, match=says):
            ask(name, env, pictures=True)
    assert ask("x/Nothing", env, pictures=True).base is not None, "some families have no file of a pipeline"


def test_a_base_of_no_known_family_has_the_size_that_the_hub_lists_unless_it_is_packed(hub: Hub) -> None:
    odd, packed = asked(hub, "x/Odd").base, asked(hub, "x/Packed").base
    assert odd is not None and odd.parameters == 1234567 and not odd.layers
    assert packed is not None and packed.parameters is None and packed.source == ""


def test_what_the_hub_does_not_say_is_not_known_and_no_error(hub: Hub) -> None:
    hub.broken = 503
    assert asked(hub, "meta/Open-8B").unknown == "the Hub answered 503"
    hub.broken = 200  # an empty answer
    assert "cannot be read" in asked(hub, "meta/Open-8B").unknown
    assert ask("a/b", {"HF_ENDPOINT": "http://127.0.0.1:9"}).unknown == "127.0.0.1:9 does not answer (ConnectError)"
    assert ask("a/b", {"HF_HUB_OFFLINE": "1"}) == HubAnswer(unknown="HF_HUB_OFFLINE is set")
    with pytest.raises(UserError, match="HF_ENDPOINT"):
        ask("a/b", {"HF_ENDPOINT": "nonsense"})
