"""The commands `trainyard` and `invoke`: verbs, which only turn words into values, and what is around them."""
