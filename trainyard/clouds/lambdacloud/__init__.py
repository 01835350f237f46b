"""Lambda Cloud: virtual machines, by its Cloud API 1.10."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.lambdacloud.cloud import LambdaCloud
from trainyard.config import Places

__all__ = ["LambdaCloud"]


def open_lambda(env: Mapping[str, str], places: Places) -> LambdaCloud:
    """Return the account named by LAMBDA_API_KEY; raises UserError where it is not set."""
    return LambdaCloud.from_env(env)
