"""What is known of a run: its record, ledger, pods, costs and summary, and how its pod is reached."""
