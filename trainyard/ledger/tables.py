"""The ledger's tables, as the newest migration leaves them (a test holds the two against each other).

Times are epoch seconds, money is in dollars.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, String, Table, Text, false

NEWEST = "0006"
"""The revision of the newest migration."""

metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("time", Double, nullable=False),
    Column("user", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("mirrored", Boolean, nullable=False),
    Index("events_by_run", "user", "label", "attempt", "time"),
    Index("events_by_kind", "kind", "time"),
    Index("events_not_mirrored", "mirrored", "machine"),
)
"""``data`` is JSON. ``machine`` is where it happened. ``mirrored``: it lies in the run's bucket, too, or nothing is owed to one."""

costs = Table(
    "costs",
    metadata,
    Column("user", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("started", Double, nullable=False),
    Column("dollars", Double, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("user", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("token", Text, primary_key=True),
    Column("stack", Text, nullable=False),
    Column("cloud", Text, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("over", Boolean, nullable=False),
    Column("machine", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("ended", Double),
    Column("hours", Double, nullable=False),
    Column("steps_done", Integer, nullable=False),
    Column("steps_planned", Integer, nullable=False),
    Column("loss", Double),
    Column("learning_rate", Double),
    Column("eta", Double),
    Column("estimate", Double),
    Column("cost", Double, nullable=False),
    Column("s3_url", Text),
    Column("local_path", Text),
    Column("owed", Boolean, nullable=False),
    Column("error", Text),
    Column("git_commit", Text),
    Column("changed", Double, nullable=False),
    Index("runs_by_time", "created", "user", "label", "attempt"),
    Index("runs_not_over", "over", "created"),
    Index("runs_by_user", "user", "created"),
    Index("runs_by_stack", "stack", "created"),
)
"""One row an attempt, as its record was at ``changed``; ``eta`` is seconds. Two checkouts without a common bucket may give one name
to two runs: the token tells them apart."""

keys = Table(
    "keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("time", Double, nullable=False),
    Column("user", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("run_user", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("attempt", Integer),
    Column("token", Text),
    Index("keys_by_run", "run_user", "label"),
)
"""One row an idempotency key: who used it when and where, what was asked for (JSON, and its hash), and the run that it stands for.
Attempt and token are unknown while a run waits in the queue."""

audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("time", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("audit_by_subject", "subject", "sequence"),
)
"""Who did what when. ``data`` is JSON; ``hash`` covers the row and ``previous``, the hash of the row before it."""

queue = Table(
    "queue",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("stack", Text, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("gpus", Text, nullable=False),
    Column("group", Text),
    Column("priority", Integer, nullable=False),
    Column("after", Text, nullable=False),
    Column("not_before", Double),
    Column("submitted", Double, nullable=False),
    Column("submitted_by", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("estimate", Double),
    Column("state", Text, nullable=False),
    Column("held", Text),
    Column("approval", Text, nullable=False),
    Column("approval_why", Text),
    Column("decided_by", Text),
    Column("decided", Double),
    Column("begun", Double),
    Column("ended", Double),
    Column("outcome", Text),
    Column("reason", Text),
    Column("tries", Integer, nullable=False),
    Column("due", Double, nullable=False),
    Column("worker", Text),
    Column("beat", Double),
    Column("auto", Boolean, nullable=False, server_default=false()),
    Index("queue_by_state", "state", "submitted"),
    Index("queue_by_name", "user", "label"),
    Index("queue_by_group", "group"),
)
"""One row a run that was submitted. ``attempt``: the least number that counts as this entry's. ``after``: a JSON list of runs.
``worker`` and ``beat``: who sees to it at the moment, and when that one last said that it lives. ``auto``: its stack is chosen when it
begins, and is until then the one that was cheapest last."""

submissions = Table(
    "submissions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
"""What was submitted, packed: what a worker prepares the run from; gone when the entry is over."""

accounts = Table(
    "accounts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("team", Text),
    Column("origin", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("disabled", Double),
    Column("month_dollars", Double),
    Column("live_runs", Integer),
)
"""Who may use a server of this ledger. ``origin``: who says who they are (local: an admin). The last two are quotas."""

teams = Table(
    "teams",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created", Double, nullable=False),
    Column("month_dollars", Double),
    Column("live_runs", Integer),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("used", Double),
    Column("revoked", Double),
    Column("parent", String(12)),
    Index("tokens_by_account", "account", "kind"),
)
"""What proves an account to a server: tokens of the API, links to log in with once, sessions of browsers, workers. Of the secret only
its sha256 is kept: it is random, so nothing slower is needed."""

operations = Table(
    "operations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("ended", Double),
    Column("exit_code", Integer),
    Column("output", Text),
    Column("said", Text),
    Column("machine", Text, nullable=False),
    Column("process", Text),
    Index("operations_by_time", "created"),
    Index("operations_by_subject", "subject", "created"),
)
"""What people had a server do: a verb of the command line, in a process of its own. ``words``: a JSON list. ``process``: its number and
what tells it from a later one. ``output`` is what it printed for programs, ``said`` the end of what it said to people."""

answers = Table(
    "answers",
    metadata,
    Column("account", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("time", Double, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("status", Integer),
    Column("body", Text),
)
"""What a server answered to a request with an Idempotency-Key; without a status it is being answered."""

duties = Table(
    "duties",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text),
    Column("until", Double, nullable=False),
    Column("begun", Double),
    Column("ended", Double),
    Column("outcome", Text),
    Column("said", Text),
)
"""What servers do by schedule: who does it now, until when that counts, and what came of it last."""

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("token", String(12), nullable=False),
    Column("created", Double, nullable=False),
    Column("labels", Text, nullable=False),
    Column("gpus", Text, nullable=False),
    Column("memory_gb", Double),
    Column("version", Text),
    Column("host_key", Text),
    Column("server", Text),
    Column("joined", Double),
    Column("beat", Double),
    Column("pods", Integer, nullable=False),
    Column("draining", Double),
)
"""Machines that join a server by a token. ``labels`` is JSON, ``gpus`` a JSON list of names. ``host_key``: of the machine that joined
first, and no other may under this name. ``server``: the machine whose server it last came to; ``beat``: when it last said that it lives."""
