"""How pages of docs/ are made: those that come from the code, the recording of a run, and the site."""
