"""Cases of playbooks as files: what Trainyard makes of them, and what ansible-core made of the same."""
