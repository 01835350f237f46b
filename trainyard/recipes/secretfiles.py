"""Keys and tokens among a person's files: known by a file's name, or by what stands in it.

Code is looked into as a whole, and a file that holds one stays. Data are looked through by the block, only for what has the shape
of a certain service's key, and nothing of them is left out: among rows, random letters are the rule.
"""

from __future__ import annotations

import codecs
import functools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from trainyard.recipes import detectors

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

NAMES = (
    "*.env", ".env.*", "!.env.example", "!.env.sample", "!.env.template", "!.env.dist", ".envrc",
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "!*.pub",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".pypirc", ".npmrc", ".git-credentials", ".htpasswd", ".pgpass",
    ".aws/", ".ssh/", ".gnupg/", ".kube/", ".docker/config.json", ".config/gcloud/", "kubeconfig",
    "secrets.json", "secrets.toml", "secrets.yaml", "secrets.yml", "credentials.json", "client_secret*.json",
    "service-account*.json", "service_account*.json",
    "*.tfstate", "*.tfstate.backup", "token.txt", "hf_token", "hf_token.txt", "*api_key.txt", "*apikey.txt", "*api_token.txt",
    "password.txt", "passwords.txt", "secret.txt", "secrets.txt", "huggingface/token", ".huggingface/",
    "kaggle.json", ".modal.toml", ".boto",
    ".s3cfg", ".dockercfg", ".vault-token", "application_default_credentials.json", "*.kubeconfig", "*.ovpn",
)  # fmt: skip
"""In the syntax of a .gitignore."""

_LARGEST = 16 << 20
"""Bytes up to which a file is looked into: keys stand in texts that people write; a notebook with its pictures is one."""
_BODY = rb"(?:\\[rn]|[\s\"',])+(?:(?:Proc-Type|Version|Comment):|[A-Za-z0-9+/=]{40})"
"""A key's first line, also where it is indented (YAML) or a string of its own (a notebook, a program)."""
_SIGNS: tuple[tuple[str, str, bytes], ...] = (
    ("a private key", "-----BEGIN", rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----" + _BODY),
    ("a key of AWS", "AKIA ASIA", rb"(?<![A-Za-z0-9/+])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9/+])"),
    (
        "a token of GitHub",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        rb"(?<![A-Za-z0-9_-])(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
    ),
    ("a token of GitLab", "glpat-", rb"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("a token of Hugging Face", "hf_", rb"(?<![A-Za-z0-9_-])hf_[A-Za-z0-9]{34}(?![A-Za-z0-9_-])"),
    ("a key of OpenAI", "T3BlbkFJ", rb"\bsk-[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20,}"),
    ("a key of Anthropic", "sk-ant-", rb"\bsk-ant-[a-z0-9]+-[A-Za-z0-9_-]{60,}"),
    ("a key of RunPod", "rpa_", rb"\brpa_[A-Z0-9]{36,}"),
    ("a key of Weights & Biases", "WANDB_API_KEY wandb_api_key", rb"(?i:wandb_api_key)[\"']?\s*[:=]\s*[\"']?[0-9a-f]{40}\b"),
    ("a token of Slack", "xox", rb"\bxox[abprs]-[0-9]+-[0-9A-Za-z-]{20,}"),
    ("a key of Google", "AIza", rb"\bAIza[0-9A-Za-z_-]{35}\b"),
    ("a key of Stripe", "k_live_", rb"\b[rs]k_live_[0-9a-zA-Z]{24,}"),
    ("a token of npm", "npm_", rb"\bnpm_[A-Za-z0-9]{36}\b"),
    ("a token of PyPI", "pypi-AgEIcHlwaS5vcmc", rb"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    ("a token of Replicate", "r8_", rb"\br8_[A-Za-z0-9]{37}\b"),
    ("a key of OpenRouter", "sk-or-v1-", rb"\bsk-or-v1-[0-9a-f]{64}\b"),
    ("a key of Groq", "gsk_", rb"\bgsk_[A-Za-z0-9]{52}\b"),
    ("a key of NVIDIA", "nvapi-", rb"\bnvapi-[A-Za-z0-9_-]{60,}"),
    ("a key of LangSmith", "lsv2_", rb"\blsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}\b"),
    ("a token of DigitalOcean", "_v1_", rb"\bdo[opr]_v1_[0-9a-f]{64}\b"),
    ("a token of Databricks", "dapi", rb"\bdapi[0-9a-f]{32}\b"),
    ("a key of SendGrid", "SG.", rb"\bSG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}\b"),
    ("a token of Vault", "hvs.", rb"\bhvs\.[A-Za-z0-9_-]{90,}"),
    ("a key of age", "AGE-SECRET-KEY-1", rb"\bAGE-SECRET-KEY-1[A-Z0-9]{58}\b"),
    ("a signed token (JWT)", "eyJ", rb"\beyJ[A-Za-z0-9_-]{12,}\.eyJ[A-Za-z0-9_-]{12,}\.[A-Za-z0-9_-]{20,}"),
)
"""What a secret is of; what none is without, looked for first, because most files have none of it; and all of it."""
_COMPILED = tuple((kind, tuple(begins.encode().split()), re.compile(sign)) for kind, begins, sign in _SIGNS)
_BEFORE, _BEHIND = 100, 1024
"""Bytes around what none is without in which all of it stands."""
_BLOCK = 4 << 20
_MOST = 1000
"""Places of one file that are told apart; a file of more is full of them."""
_PACKED = (b"PAR1", b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")
_WORDS = (
    b"token",
    b"secret",
    b"passw",
    b"credential",
    b"api_key",
    b"apikey",
    b"access_key",
    b"accesskey",
    b"private_key",
    b"privatekey",
    b"auth_key",
    b"authkey",
)
_NAMED = re.compile(
    rb"(?i)(?:token|secret|passwd|password|credential|(?:api|access|secret|private|auth)_?key)s?[\"']?"
    rb"(?:\s*:\s*[a-z][a-z |.\[\]]{0,30})?\s*(?:=>|:=|=|:)\s*[\"'`]?([a-z0-9_.+=~-]{20,200})(?![a-z0-9_.+=~(\[/-])"
)
"""A name that says what its value is, and a value that is one word."""
_NAME = re.compile(rb"[A-Za-z0-9_.-]{0,60}\Z")
_RANDOM = re.compile(rb"[A-Za-z0-9]{20,}")
_BITS = 3.0
"""Of a letter, at least: 20 letters drawn of 16 have more, counted and repeated ones less."""


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """Where what looks like a secret stands, and of what it is; the secret itself is nowhere here."""

    line: int
    kind: str


def is_secret_name(name: str) -> bool:
    """Tell whether a file of this name (with '/') is known to hold secrets."""
    return _names().match_file(name)


@functools.cache
def _names() -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # only who sends a folder needs it, and it takes its time

    return GitIgnoreSpec.from_lines(NAMES)


def secret_in(data: bytes) -> tuple[str, int] | None:
    """Return what kind of secret a file's content holds and in which line, None when nothing looks like one."""
    text = _text(data) if len(data) <= _LARGEST else None
    if text is None:
        return None
    first = next(_signs(text), None)
    if first is not None:
        return first[0], _line(text, first[1])
    small = text.lower()
    for match in _NAMED.finditer(text) if any(word in small for word in _WORDS) else ():
        if b"example" not in match[1].lower() and any(map(_drawn, _RANDOM.findall(match[1]))):
            before = _NAME.search(text, max(0, match.start() - 60), match.start())
            name = (before[0] if before else b"") + re.split(rb"[^A-Za-z0-9_]", match[0], maxsplit=1)[0]
            return f"what looks like a secret ({name.decode()})", _line(text, match.start())
    return None


def secrets_among(path: Path, most: int) -> tuple[list[SecretPlace], int]:
    """Return the places of a data file's first ``most`` bytes that look like a key of a service, and how many bytes were looked at.

    None of one that is packed or no text. Raises OSError for a file that cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(8192)
        if head.startswith(_PACKED) or b"\0" in head:
            return [], 0
        stream.seek(0)
        return _through(stream, most)


def _through(stream: BinaryIO, most: int) -> tuple[list[SecretPlace], int]:
    places: dict[tuple[int, str], None] = {}  # one service's in one line is told once
    looked, line, rest = 0, 1, b""
    while looked < most and len(places) < _MOST and (block := stream.read(min(_BLOCK, most - looked))):
        looked += len(block)
        text = rest + block
        ordered = sorted((at, kind) for kind, at in _signs(text))
        counted, at_line = 0, line
        for at, kind in ordered:
            at_line += text.count(b"\n", counted, at)
            counted = at
            places.setdefault((at_line, kind))
        # What is cut by the end of the block is whole in the next one.
        rest = text[-_BEHIND:]
        line += text.count(b"\n", 0, len(text) - len(rest))
    return [SecretPlace(*place) for place in places], looked


def _signs(text: bytes) -> Iterator[tuple[str, int]]:
    """Yield the kind of each key that has a service's own shape, and where it begins."""
    for kind, begins, sign in _COMPILED:
        for begin in begins:
            yield from ((kind, match.start()) for match in _near(text, begin, sign) if not match[0].endswith(b"EXAMPLE"))
    for kind, begin, sign in detectors.patterns():
        for match in _near(text, begin, sign) if begin else sign.finditer(text):
            if detectors.is_key(text, match):
                yield kind, match.start()


def _near(text: bytes, begin: bytes, sign: re.Pattern[bytes]) -> Iterator[re.Match[bytes]]:
    """Yield a pattern's matches: only around ``begin``, which each of them has in it; that is sought at a hundred times the speed."""
    at = text.find(begin)
    while at >= 0:
        match = sign.search(text, max(0, at - _BEFORE), at + _BEHIND)
        if match is not None:
            yield match
        at = text.find(begin, max(at, match.end() - 1 if match else at) + 1)


def _line(text: bytes, at: int) -> int:
    return text.count(b"\n", 0, at) + 1


def _text(data: bytes) -> bytes | None:
    """Return a file's text, that of an editor or a shell of Windows too; None for what is none."""
    wide = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}.get(data[:2])
    if wide is None and b"\0" in data[:8192]:
        head = data[:200]
        wide = "utf-16-le" if not any(head[1::2]) else "utf-16-be" if not any(head[::2]) else None
        if wide is None:
            return None
    return data if wide is None else data.decode(wide, "replace").encode("utf-8", "replace")


def _drawn(word: bytes) -> bool:
    """Tell whether a word looks drawn by chance: digits and letters mixed, hardly any of them twice, no word that a person wrote."""
    digits = sum(48 <= letter < 58 for letter in word)
    counts = Counter(word.lower())
    bits = -sum(count / len(word) * math.log2(count / len(word)) for count in counts.values())
    spoken = any(part in word.lower() for part in (*_WORDS, b"key"))
    return 2 <= digits <= len(word) - 2 and bits >= _BITS and not spoken
