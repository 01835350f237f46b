"""A rehearsal of a stack of one's own machines: one of its own on this machine, never the person's."""
