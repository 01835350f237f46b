"""Values that Ansible has encrypted (``ansible-vault``): read with the password of a file, once, and never shown."""

from __future__ import annotations

import binascii
import os
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.playbook.natives import Variables, Written
from trainyard.secret import conceal

PASSWORD_FILE = "TRAINYARD_VAULT_PASSWORD_FILE"
_HEADER = "$ANSIBLE_VAULT;"
_ROUNDS = 10_000
_KEY = 32


@dataclass(frozen=True, slots=True)
class Sealed(Written):
    """A value with the tag ``!vault``."""

    text: str
    where: Location | None = None

    def render(self, variables: Variables) -> object:
        """Return what was encrypted. Raises UserError at its place where the password is not there, or another one."""
        return opened(self.text, self.where)

    def lazily(self, variables: Variables, open_: tuple[Written, ...]) -> object:
        """Return what was encrypted."""
        return self.render(variables)


def is_sealed(text: str) -> bool:
    """Tell whether a text, or the whole of a file, is encrypted."""
    return text.startswith(_HEADER)


def opened(text: str, where: Location | None) -> str:
    """Return what was encrypted; from here on it is taken out of whatever is shown."""
    header, *lines = text.strip().splitlines() or [""]
    _, version, cipher, *_ = [*header.split(";"), "", "", ""]
    if not is_sealed(header) or version not in ("1.1", "1.2") or cipher.strip() != "AES256":
        raise UserError("'!vault' is for what ansible-vault has made: $ANSIBLE_VAULT;1.1;AES256 or 1.2", where=where)
    try:
        salt, digest, sealed = (binascii.unhexlify(part) for part in binascii.unhexlify("".join(map(str.strip, lines))).split(b"\n"))
        value = _decrypted(_password(), salt, digest, sealed).decode()
    except UserError as error:
        raise UserError(error.message, where=where) from None
    except ValueError:
        raise UserError("what is encrypted here is no longer whole: encrypt it again with ansible-vault", where=where) from None
    conceal(value)
    return value


@lru_cache(256)
def _decrypted(password: bytes, salt: bytes, digest: bytes, sealed: bytes) -> bytes:
    # What few playbooks need is loaded when one needs it.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, hmac, padding
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    key = PBKDF2HMAC(hashes.SHA256(), 2 * _KEY + 16, salt, _ROUNDS).derive(password)
    proof = hmac.HMAC(key[_KEY : 2 * _KEY], hashes.SHA256())
    proof.update(sealed)
    try:
        proof.verify(digest)
    except InvalidSignature:
        raise UserError(f"the password of {os.environ.get(PASSWORD_FILE)} does not open this value") from None
    cipher = Cipher(algorithms.AES(key[:_KEY]), modes.CTR(key[2 * _KEY :])).decryptor()
    unpadded = padding.PKCS7(128).unpadder()
    return unpadded.update(cipher.update(sealed) + cipher.finalize()) + unpadded.finalize()


def password_from(path: str) -> str:
    """Take the password from a file, for the rest of this process; return its path."""
    os.environ[PASSWORD_FILE] = path
    return path


def _password() -> bytes:
    """Read the password: the first line of the file, or what it prints where it is a program."""
    name = os.environ.get(PASSWORD_FILE)
    if not name:
        raise UserError(f"an encrypted value needs its password: name its file: --vault-password-file, or {PASSWORD_FILE}")
    path = Path(name).expanduser()
    try:
        if os.access(path, os.X_OK) and path.is_file():
            text = subprocess.run([path.absolute()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
        else:
            text = path.read_bytes()
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"the password's file {path}: {getattr(error, 'strerror', None) or 'the program failed'}") from None
    if not text.strip():
        raise UserError(f"the password's file {path} is empty")
    conceal(text.strip().decode(errors="replace"))
    return text.strip()
