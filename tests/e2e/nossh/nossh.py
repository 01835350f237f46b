"""The row of a cloud without SSH, as a package of somebody else's brings it: data only."""

from __future__ import annotations

from trainyard.settings.clouds import CloudEntry

ROW = CloudEntry(name="nossh", title="Containers", opener="nossh_cloud:open_nossh", ssh=False, settings=("image",), deadline=True)
