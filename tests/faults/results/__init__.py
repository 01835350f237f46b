"""The matrix of guarantee G2: results of odd contents, one trouble each, and whatever ends the story (``invoke faults.results``)."""
