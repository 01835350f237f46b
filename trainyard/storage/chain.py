"""Keys from Amazon's own chain, found by botocore: a profile, SSO, ``credential_process``, a role of a container or a machine.

Only where somebody asked for it: the stack's store is ``aws`` or ``s3``, or AWS_PROFILE is set and a bucket is named. The
metadata service of a machine is asked in the first case alone, and for a second at most: on a laptop nothing answers there.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass

import botocore.credentials
import botocore.session
from botocore.credentials import ProcessProvider
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, ProfileNotFound

from trainyard.errors import StoreError, UserError
from trainyard.storage import keyprogram

_METADATA = "iam-role"
_SSO = ("UnauthorizedSSOTokenError", "SSOTokenLoadError", "TokenRetrievalError", "PendingAuthorizationExpiredError")


@dataclass(frozen=True, slots=True)
class ChainKeys:
    """What the chain gives now. ``end``: epoch seconds at which these keys end, None for those that do not, or do not say."""

    access_key: str
    secret_key: str
    session_token: str | None
    end: float | None
    renewed: bool
    """Botocore gets new ones by itself, as long as what they come from holds."""
    region: str | None
    endpoint: str | None


def keys_of(profile: str, *, metadata: bool) -> ChainKeys | None:
    """Return the keys of a profile (empty: the default chain), None where no link of the chain has any.

    Raises UserError for a profile that is nowhere, StoreError for keys that cannot be had now (an SSO session that is over).
    """
    try:
        session = _session(profile)
        credentials = provider(profile, metadata=metadata).load_credentials()
        if credentials is None:
            return None
        frozen = credentials.get_frozen_credentials()
        scoped = session.get_scoped_config()
        renewed = isinstance(credentials, botocore.credentials.RefreshableCredentials) and not provider(profile, metadata=metadata).asked
    except ProfileNotFound as error:
        raise UserError(f"AWS_PROFILE: {error}", hint="Profiles are in ~/.aws/config; `aws configure list-profiles` shows them.") from None
    except (BotoCoreError, ClientError, RuntimeError, OSError, ValueError) as error:  # keys that ended, a token's file that is not there
        raise _refused(profile, error) from error
    end = getattr(credentials, "_expiry_time", None)  # botocore tells it nowhere else
    return ChainKeys(
        frozen.access_key, frozen.secret_key, frozen.token, end.timestamp() if end else None,
        renewed, session.get_config_variable("region"), scoped.get("endpoint_url"),
    )  # fmt: skip


class ChainProvider:
    """What a botocore session asks for credentials: the same object each time, which renews itself."""

    def __init__(self, profile: str, metadata: bool) -> None:
        self._profile, self._metadata = profile, metadata
        self._credentials: botocore.credentials.Credentials | None = None
        self.asked = False
        """A person was asked for the code of a device: nobody may be there to be asked again."""

    def load_credentials(self) -> botocore.credentials.Credentials | None:
        """Return the credentials, None where there are none."""
        if self._credentials is None:
            resolver = _session(self._profile).get_component("credential_provider")
            if not self._metadata:
                resolver.remove(_METADATA)
            for link in resolver.providers:
                keyprogram.limit(link)
                if isinstance(link, botocore.credentials.AssumeRoleProvider):
                    link._prompter = functools.partial(self._ask, link._prompter)
            self._credentials = resolver.load_credentials()
        return self._credentials

    def _ask(self, prompter: Callable[[str], str], text: str) -> str:
        """Ask for the code of an MFA device, once and of a person: a controller at night would wait for ever."""
        if self.asked or not sys.stdin.isatty():
            raise CredentialRetrievalError(provider="assume-role", error_msg="the code of an MFA device is asked for, and nobody is there")
        self.asked = True
        return prompter(text)


@functools.lru_cache(maxsize=8)
def provider(profile: str, *, metadata: bool) -> ChainProvider:
    """Return the provider of a profile, one for the whole process."""
    return ChainProvider(profile, metadata)


@functools.lru_cache(maxsize=8)
def _session(profile: str) -> botocore.session.Session:
    session = botocore.session.Session(profile=profile or None)
    session.set_config_variable("metadata_service_timeout", 1)
    session.set_config_variable("metadata_service_num_attempts", 1)
    return session


def _refused(profile: str, error: Exception) -> StoreError:
    kind, named = type(error).__name__, f"profile '{profile}'" if profile else "the default chain"
    hint = None
    if kind in _SSO:
        hint = f"Sign in again: aws sso login{f' --profile {profile}' if profile else ''}"
        return StoreError(f"AWS: {named} gives no keys now: {error}", hint=hint, code="ExpiredToken")
    if getattr(error, "kwargs", {}).get("provider") == ProcessProvider.METHOD:
        hint = "Run the program that credential_process names in ~/.aws/config in a terminal: it says what it lacks."
    return StoreError(f"AWS: {named} gives no keys now: {error}", hint=hint)
