"""The server: dashboard and REST API over the ledger and the verbs that exist. It holds nothing of its own: kill it, and runs go on."""
