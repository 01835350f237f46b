"""The bucket: client settings, manifest, commit protocol, lifecycle, the local server."""
