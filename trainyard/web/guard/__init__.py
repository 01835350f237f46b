"""What stands before every request: who asks and what that allows, sizes, headers, the log."""
