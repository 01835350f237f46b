"""Playbooks: loading, actions, executor, report."""
