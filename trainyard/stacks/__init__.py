"""One facade over the two engines: up, preview, refresh, destroy, outputs."""
