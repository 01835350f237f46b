"""Files that must not leave this machine with a person's code: known by their name, or by what stands in them."""

from __future__ import annotations

import re

NAMES = (
    "*.env", ".env.*", "!.env.example", "!.env.sample", "!.env.template", "!.env.dist", ".envrc",
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "!*.pub",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".pypirc", ".npmrc", ".git-credentials", ".htpasswd", ".pgpass",
    ".aws/", ".ssh/", ".gnupg/", ".kube/", ".docker/config.json", ".config/gcloud/", "kubeconfig",
    "secrets.json", "secrets.toml", "secrets.yaml", "secrets.yml", "credentials.json", "client_secret*.json",
    "service-account*.json", "service_account*.json",
    "*.tfstate", "*.tfstate.backup",
)  # fmt: skip
"""In the syntax of a .gitignore."""

_LARGEST = 2 << 20
"""Bytes up to which a file is looked into: keys stand in texts that people write."""
_BODY = rb"(?:\\[rn]|[\s\"',])+(?:(?:Proc-Type|Version|Comment):|[A-Za-z0-9+/=]{40})"
"""A key's first line, also where it is indented (YAML) or a string of its own (a notebook, a program)."""
_SIGNS: dict[str, bytes] = {
    "a private key": rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----" + _BODY,
    "a key of AWS": rb"(?<![A-Za-z0-9/+])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9/+])",
    "a token of GitHub": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
    "a token of GitLab": rb"\bglpat-[A-Za-z0-9_-]{20,}",
    "a token of Hugging Face": rb"\bhf_[A-Za-z0-9]{34}\b",
    "a key of OpenAI": rb"\bsk-[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20,}",
    "a key of Anthropic": rb"\bsk-ant-[a-z0-9]+-[A-Za-z0-9_-]{60,}",
    "a key of RunPod": rb"\brpa_[A-Z0-9]{36,}",
    "a key of Weights & Biases": rb"(?i:wandb_api_key)[\"']?\s*[:=]\s*[\"']?[0-9a-f]{40}\b",
    "a token of Slack": rb"\bxox[abprs]-[0-9]+-[0-9A-Za-z-]{20,}",
    "a key of Google": rb"\bAIza[0-9A-Za-z_-]{35}\b",
    "a key of Stripe": rb"\b[rs]k_live_[0-9a-zA-Z]{24,}",
}
_ANY = re.compile(b"|".join(b"(" + sign + b")" for sign in _SIGNS.values()))


def secret_in(data: bytes) -> tuple[str, int] | None:
    """Return what kind of secret a file's content holds and in which line, None when nothing looks like one."""
    if len(data) > _LARGEST or b"\0" in data[:8192]:
        return None
    for match in _ANY.finditer(data):
        if match.lastindex is not None and not match[0].endswith(b"EXAMPLE"):
            return list(_SIGNS)[match.lastindex - 1], data.count(b"\n", 0, match.start()) + 1
    return None
