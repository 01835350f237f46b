"""The cloud on this machine."""

from trainyard.clouds.local.cloud import LocalCloud

__all__ = ["LocalCloud"]
