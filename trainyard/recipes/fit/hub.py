"""A base looked up at the Hugging Face Hub before anything is rented: there, open to us, of what kind and size.

By the Hub's documented API: ``/api/models/ID`` and ``/ID/resolve/REVISION/config.json``. What it says for certain is an error here and
now; what could not be asked is told as not known, and stops nobody.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from trainyard.errors import UserError
from trainyard.jsontext import parse_json
from trainyard.network import proxy_for, trust, web_address
from trainyard.recipes.fit.base import Base
from trainyard.recipes.fit.shapes import shape_of

if TYPE_CHECKING:
    import httpx

ENDPOINT = "https://huggingface.co"
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
CONFIG, PIPELINE = "config.json", "model_index.json"
"""What a model of transformers has at its top, and a pipeline of diffusers."""
_PATIENCE = 8.0
_LARGEST = 8 << 20
"""Bytes: what is larger is no config.json."""
_OTHER_HEADS = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForImageClassification")
_CODE, _MESSAGE = "X-Error-Code", "X-Error-Message"
_BAD_TOKEN = "Invalid credentials in Authorization header"
"""The Hub's own mark of a token that it does not know: it has no code for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAnswer:
    """What the Hub has said of a base, or why it has said nothing."""

    base: Base | None = None
    revision: str = ""
    gated: bool = False
    private: bool = False
    licence: str = ""
    licence_name: str = ""
    licence_link: str = ""
    """What stands behind the licence ``other``."""
    unknown: str = ""
    """Why nothing is known; empty: it has answered."""

    @property
    def needs_token(self) -> bool:
        """Tell whether who downloads it must show a token."""
        return self.gated or self.private


class _Unknown(Exception):
    """The Hub did not say."""


def ask(name: str, env: Mapping[str, str], *, pictures: bool = False) -> HubAnswer:
    """Ask the Hub for a base, of texts or of ``pictures``; raises UserError for one that certainly cannot be trained by us."""
    if env.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return HubAnswer(unknown="HF_HUB_OFFLINE is set")
    endpoint = (env.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    secure = web_address("HF_ENDPOINT", endpoint).scheme == "https"
    # Without TLS no certificates are read, which takes longer than the rest: this trusts nobody.
    verify = (trust(env) or True) if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ways = {"proxy": proxy_for(endpoint, env), "verify": verify}
    token = next((env[one] for one in TOKENS if env.get(one)), "")
    try:
        return _asked(name, endpoint, token, ways, pictures)
    except _Unknown as error:
        return HubAnswer(unknown=str(error))


def _asked(name: str, endpoint: str, token: str, ways: Mapping[str, Any], pictures: bool) -> HubAnswer:
    import httpx  # a tenth of a second that no other command needs

    headers = {"authorization": f"Bearer {token}"} if token else {}
    address = f"{endpoint}/{name}"
    with httpx.Client(headers=headers, timeout=_PATIENCE, follow_redirects=True, trust_env=False, **ways) as client:
        info = _object(_get(client, f"{endpoint}/api/models/{quote(name)}", address, token), address)
        revision = str(info.get("sha") or "main")
        files = [str(one.get("rfilename")) for one in info.get("siblings") or () if isinstance(one, dict)]
        answer = _get(client, f"{endpoint}/{quote(name)}/resolve/{quote(revision)}/{PIPELINE if pictures else CONFIG}", address, token)
        if answer is None and not pictures:
            raise _no_config(address, files)
        # Of a pipeline nothing is reckoned; that its file was given tells that this token may have it. Some families have none.
        config = {} if pictures else _object(answer, address)
    _refuse_other_heads(address, config)
    card = info["cardData"] if isinstance(info.get("cardData"), dict) else {}
    return HubAnswer(
        base=_base(name, config, info), revision=revision, gated=bool(info.get("gated")), private=bool(info.get("private")),
        licence=str(card.get("license") or ""), licence_name=str(card.get("license_name") or ""),
        licence_link=str(card.get("license_link") or ""),
    )  # fmt: skip


def _get(client: httpx.Client, url: str, address: str, token: str) -> httpx.Response | None:
    """Return the answer, None for a file that is not there; raises UserError for a definite no."""
    import httpx

    try:
        answer = client.get(url)
    except httpx.HTTPError as error:
        raise _Unknown(f"{address.rpartition('//')[2].partition('/')[0]} does not answer ({type(error).__name__})") from None
    code, message = answer.headers.get(_CODE), answer.headers.get(_MESSAGE)
    if answer.status_code == 200 and len(answer.content) <= _LARGEST:
        return answer
    if code == "EntryNotFound":
        return None
    if answer.status_code == 401 and message == _BAD_TOKEN:
        raise UserError("the Hub does not know this HF_TOKEN", hint=f"Make one at {ENDPOINT}/settings/tokens, or unset it.")
    if code == "GatedRepo":
        raise _gated(address, token)
    if code == "RepoNotFound" or answer.status_code == 404 or (answer.status_code == 401 and code is None):
        hint = "HF_TOKEN may not see it, or its name is another one." if token else "If it is private, put HF_TOKEN=... into .env."
        raise UserError(f"there is no model {address}", hint=hint)
    raise _Unknown(f"the Hub answered {answer.status_code}")


def _gated(address: str, token: str) -> UserError:
    if token:
        return UserError(f"{address} is gated, and the account of this HF_TOKEN has no access", hint=f"Accept its terms: {address}")
    hint = f"Accept its terms at {address}, put HF_TOKEN=... into .env, and name HF_TOKEN in the stack's pod_secrets."
    return UserError(f"{address} is gated: only who has accepted its terms can download it, and HF_TOKEN is not set", hint=hint)


def _no_config(address: str, files: list[str]) -> UserError:
    if "adapter_config.json" in files:
        return UserError(f"{address} is an adapter, not a base", hint="Name its base; init_from starts from an adapter of a run of yours.")
    if PIPELINE in files:
        return UserError(f"{address} is a pipeline of diffusers, which makes images", hint="Recipe simpletuner trains such ones.")
    if any(name.endswith(".gguf") for name in files):
        hint = "Name the model that they were made from."
        return UserError(f"{address} holds GGUF files, which serve a model and cannot be trained", hint=hint)
    return UserError(f"{address} holds no config.json: it is no model of transformers")


def _refuse_other_heads(address: str, config: Mapping[str, Any]) -> None:
    heads = [str(one) for one in config.get("architectures") or ()]
    if heads and all(head.endswith(_OTHER_HEADS) for head in heads):
        raise UserError(f"{address} is a {', '.join(heads)}: it writes no text", hint="Name a model that ends in ForCausalLM.")


def _base(name: str, config: Mapping[str, Any], info: Mapping[str, Any]) -> Base:
    shape = shape_of(config)
    listed = info["safetensors"].get("total") if isinstance(info.get("safetensors"), dict) else None
    # The list of what is packed counts bytes of it, not weights.
    counted = listed if isinstance(listed, int) and "quantization_config" not in config else None
    source = "the Hub's list of its weights"
    layers: frozenset[str] = frozenset()
    if shape is not None and shape.exact:
        counted, source = shape.total, "its config.json at the Hub"
        layers = shape.layer_names()
    size = counted or (shape.total if shape else None)
    return Base(name=name, parameters=size, source=source if size else "", config=config, layers=layers)


def _object(answer: httpx.Response | None, address: str) -> dict[str, Any]:
    try:
        content = parse_json(answer.content) if answer is not None else None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _Unknown(f"what was answered for {address} cannot be read")
    return content
