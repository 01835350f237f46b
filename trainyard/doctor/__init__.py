"""What this machine and a stack have, and what to do about what they lack."""
