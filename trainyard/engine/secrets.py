"""The passphrase secrets of Pulumi: PBKDF2 and AES-256-GCM, byte for byte as the CLI writes them.

Deriving a key takes 0.4 s (a million rounds), so a Crypter may be built while other work goes on:
hashlib gives the interpreter lock back. And a process that knows a key may hand it to the engine it starts.
Knows nothing of state files or stack settings.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import threading
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from trainyard.engine.hook import EngineError

_ROUNDS = 1_000_000
_KEY_BYTES = 32
_SALT_BYTES = 8
_NONCE_BYTES = 12
_CHECK_TEXT = "pulumi"

_HANDED = "TRAINYARD_ENGINE_KEYS"
"""The variable in which an engine gets keys: ``<salt>:<key>``, in base64, with commas between. It is no more secret than
the passphrase, which comes the same way, and it goes no further than to the engine. A key that opens the secrets is enough:
the passphrase beside it is then not looked at, right or wrong."""


def passphrase(env: Mapping[str, str]) -> str:
    """Return the passphrase; an empty one counts when it is set."""
    if "PULUMI_CONFIG_PASSPHRASE" in env:
        return env["PULUMI_CONFIG_PASSPHRASE"]
    path = env.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    if not path:
        raise EngineError("the passphrase is not known: set PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise EngineError(f"the passphrase cannot be read from {path}: {error.strerror}") from None


def new_salt(passphrase: str) -> str:
    """Return a new ``encryptionsalt``: random salt and the value that later proves the passphrase."""
    salt = os.urandom(_SALT_BYTES)
    key = _derive(passphrase, salt)
    return f"v1:{base64.b64encode(salt).decode()}:{_seal(key, _CHECK_TEXT)}"


_DERIVING = threading.Lock()
_DERIVED: dict[bytes, tuple[str | None, bytes]] = {}
"""Keys by salt, with the passphrase; without one where the key was handed over."""


def handed() -> dict[str, str]:
    """Return the variable with all keys that this process knows, for the environment of an engine; {} when it knows none."""
    pairs = [":".join(base64.b64encode(part).decode() for part in (salt, key)) for salt, (_, key) in list(_DERIVED.items())]
    return {_HANDED: ",".join(pairs)} if pairs else {}


def take(env: MutableMapping[str, str]) -> None:
    """Take the keys that were handed over out of an environment: what this process starts gets none."""
    for pair in filter(None, env.pop(_HANDED, "").split(",")):
        try:
            salt, key = (base64.b64decode(part, validate=True) for part in pair.split(":"))
        except ValueError:
            continue  # then it is derived
        if len(key) == _KEY_BYTES:
            _DERIVED[salt] = (None, key)


def begin(passphrase: str, salt: str) -> None:
    """Derive the key of a salt in a thread: a Crypter that is made meanwhile waits for it."""
    raw, _ = _split_salt(salt)

    def derive() -> None:
        with _DERIVING:
            _derive(passphrase, raw)

    threading.Thread(target=derive, name="key", daemon=True).start()


class Crypter:
    """Encrypt and decrypt texts with the key of one passphrase and salt.

    With ``background`` the key is derived in a thread, and a wrong passphrase shows at the first use
    (or at ``check()``) instead of in the constructor.
    """

    __slots__ = ("_check", "_key", "_known", "_lock", "_passphrase", "_problem", "_salt", "_thread", "salt")

    def __init__(self, passphrase: str, salt: str, *, background: bool = False) -> None:
        self.salt = salt
        self._salt, self._check = _split_salt(salt)
        self._passphrase = passphrase
        self._key = b""
        self._problem: EngineError | None = None
        self._known: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = threading.Thread(target=self._prepare, name="key", daemon=True)
        self._thread.start()
        if not background:
            self.check()

    def check(self) -> None:
        """Raise EngineError when the passphrase is wrong."""
        thread = self._thread
        if thread is not None:
            thread.join()
            self._thread = None
        if self._problem is not None:
            raise self._problem

    def encrypt(self, text: str, place: str = "") -> str:
        """Return ``v1:nonce:ciphertext``; the same text at the same place keeps its ciphertext."""
        self.check()
        with self._lock:
            known = self._known.get((place, text)) if place else None
            if known is None:
                known = _seal(self._key, text)
                if place:
                    self._known[place, text] = known
            return known

    def decrypt(self, value: str, place: str = "") -> str:
        """Return the clear text of ``v1:nonce:ciphertext``; raises EngineError when it was altered."""
        self.check()
        text = _open(self._key, value)
        if place:
            with self._lock:
                self._known[place, text] = value
        return text

    def _prepare(self) -> None:
        with _DERIVING:  # a second user of the same key waits for the first instead of deriving it again
            self._key = _derive(self._passphrase, self._salt)
            if not self._opens() and _DERIVED[self._salt][0] is None:  # it was handed over, and is not this stack's
                del _DERIVED[self._salt]
                self._key = _derive(self._passphrase, self._salt)
        self._passphrase = ""
        if not self._opens():
            self._problem = EngineError(
                "the passphrase is wrong: it does not open the secrets of this stack",
                hint="Set PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE to the one the stack was made with.",
            )

    def _opens(self) -> bool:
        try:
            return _open(self._key, self._check) == _CHECK_TEXT
        except EngineError:
            return False


def _derive(passphrase: str, salt: bytes) -> bytes:
    known, key = _DERIVED.get(salt, ("", b""))
    if not key or known not in (None, passphrase):
        key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, _ROUNDS, _KEY_BYTES)
        _DERIVED[salt] = (passphrase, key)
    return key


def _split_salt(salt: str) -> tuple[bytes, str]:
    version, _, rest = salt.partition(":")
    encoded, _, check = rest.partition(":")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raw = b""
    if version != "v1" or not raw or not check.startswith("v1:"):
        raise EngineError("the salt of this stack's secrets is not of the form v1:<salt>:<check>")
    return raw, check


def _seal(key: bytes, text: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # late: a stack without secrets needs none of it

    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, text.encode(), None)
    return f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(sealed).decode()}"


def _open(key: bytes, value: str) -> str:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        version, nonce, sealed = value.split(":")
        if version != "v1":
            raise ValueError(version)
        return AESGCM(key).decrypt(base64.b64decode(nonce, validate=True), base64.b64decode(sealed, validate=True), None).decode()
    except (ValueError, InvalidTag):
        raise EngineError("a secret cannot be decrypted: it was altered, or made with another passphrase") from None
