"""What servers do by schedule: each duty is a verb in a process of its own, and of all servers of a ledger one does it."""
