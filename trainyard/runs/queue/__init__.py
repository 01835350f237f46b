"""The queue: what is submitted begins when it is its turn, by whichever worker sees to it."""
