"""Ansible-style playbooks: load and validate, actions, executor, report."""

from trainyard.playbook.executor import Host, run
from trainyard.playbook.loader import load
from trainyard.playbook.model import Playbook
from trainyard.playbook.report import Report, Reporter, Silent, TextReporter

__all__ = ["Host", "Playbook", "Report", "Reporter", "Silent", "TextReporter", "load", "run"]
