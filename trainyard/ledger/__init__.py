"""The ledger: runs, events, costs in one database, SQLite beside the runs or Postgres by URL; knows nothing of clouds and buckets."""
