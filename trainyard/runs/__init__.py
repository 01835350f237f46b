"""Runs: train, attach, cancel, recover; ledger, budget, summary."""
