"""What is made of the result of a run: merged, asked, converted, served, held against another."""
