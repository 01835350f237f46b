"""What a person asks for, a module a verb or a group of them."""
