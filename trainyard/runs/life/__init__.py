"""The life of a run: rent, start, follow, judge, commit, tear down."""
