"""RunPod: pods through REST v2, spot and balance through GraphQL."""

from trainyard.clouds.runpod.cloud import RunPodCloud

__all__ = ["RunPodCloud"]
