"""Ansible-style playbooks: load and validate, actions, executor, report."""
