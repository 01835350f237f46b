"""Before anything is rented: what a run needs, may cost, may send, and the environment that it stands on."""
