"""Which hosts there are, which of them a play is for, and the way to each."""
