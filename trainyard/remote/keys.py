"""SSH keys made here: host keys derived before their pod exists, login keys made once a stack.

A host key is a function of the stack's seed and the pod's name, so a retried create asks for the very same
one and every machine that holds the seed can pin it (issue 3, DESIGN G3). Knows nothing of connections.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key, load_ssh_private_key

from trainyard.errors import UserError

_KIND = b"ssh-ed25519"
_CONTEXT = b"trainyard host key v1\0"


@dataclass(frozen=True, slots=True)
class HostKey:
    """One pod's host key; ``private_pem`` goes to that pod alone, ``public`` is what clients pin."""

    private_pem: str
    public: str

    def __repr__(self) -> str:
        return f"HostKey(public={self.public!r})"


def host_key(seed: bytes, pod_name: str) -> HostKey:
    """Derive the ed25519 host key of a pod; the same seed and name give the same bytes."""
    if len(seed) < 16:
        raise ValueError("a host key seed has at least 16 bytes")
    private = hmac.new(seed, _CONTEXT + pod_name.encode(), hashlib.sha256).digest()
    return HostKey(*_openssh(private, pod_name))


def new_ssh_key(comment: str = "trainyard") -> tuple[str, str]:
    """Make a login key; return (private key as OpenSSH PEM, public line)."""
    private = Ed25519PrivateKey.generate().private_bytes_raw()
    return _openssh(private, comment)


def is_private_key(text: bytes) -> bool:
    """Tell whether this is a whole private key; one with a passphrase is."""
    load = load_ssh_private_key if b"OPENSSH" in text else load_pem_private_key
    try:
        load(text, None)
    except ValueError:
        return False
    except (TypeError, UnsupportedAlgorithm):
        return True  # it needs a passphrase
    return True


def fingerprint(public: str) -> str:
    """Return a public key's fingerprint as ``ssh-keygen -l`` shows it: ``SHA256:...``."""
    digest = hashlib.sha256(base64.b64decode(split_public(public)[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def split_public(public: str) -> tuple[str, str]:
    """Return (type, base64) of a line ``ssh-ed25519 AAAA... [comment]``; raises ValueError for anything else."""
    words = public.split()
    if len(words) < 2:
        raise ValueError(f"not a public key line: '{public[:40]}'")
    base64.b64decode(words[1], validate=True)
    return words[0], words[1]


def own_public_key(path: Path, what: str) -> str:
    """Return the public line beside a person's own private key; ``what`` is what a message calls the key's name.

    Raises UserError where either file is not there or is no key.
    """
    public = path.with_name(path.name + ".pub")
    try:
        text = public.read_text(encoding="utf-8").strip()
        split_public(text)
        if not is_private_key(path.read_bytes()):
            raise UserError(f"{what}: {path} is no private SSH key")
    except FileNotFoundError as error:
        missing = Path(str(error.filename))
        again = missing == public and path.exists()
        hint = f"To make it again: ssh-keygen -y -f {path} > {public}" if again else f"To make a pair: ssh-keygen -t ed25519 -f {path}"
        raise UserError(f"{what}: there is no {missing}", hint=hint) from None
    except OSError as error:
        raise UserError(f"{what}: cannot read {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{what}: {public}: {error}") from None
    return text


def _openssh(private: bytes, comment: str) -> tuple[str, str]:
    """Write the key pair in OpenSSH's own format.

    Written by hand because the library puts 4 random check bytes into each copy, and a pod's inputs
    must not differ from one call to the next: here they come from the key.
    """
    public = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    blob = _text(_KIND) + _text(public)
    check = hashlib.sha256(b"check" + private).digest()[:4]
    body = check + check + blob + _text(private + public) + _text(comment.encode())
    body += bytes(range(1, -len(body) % 8 + 1))
    packed = b"openssh-key-v1\0" + _text(b"none") + _text(b"none") + _text(b"") + struct.pack(">I", 1) + _text(blob) + _text(body)
    encoded = base64.b64encode(packed).decode()
    lines = [encoded[start : start + 70] for start in range(0, len(encoded), 70)]
    pem = "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----", ""])
    return pem, f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value
