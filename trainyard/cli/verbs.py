"""Every verb of a person, by name: what `trainyard` offers, and what a repository's tasks.py hands to `invoke`."""

from __future__ import annotations

from invoke.collection import Collection

from trainyard.cli import (
    accountverbs,
    afterverbs,
    auditverbs,
    cacheverbs,
    cycleverbs,
    dataverbs,
    ggufverbs,
    gitopsverbs,
    ledgerverbs,
    machineverbs,
    marketverbs,
    noticeverbs,
    playverbs,
    queueverbs,
    recordverbs,
    repoverbs,
    resultverbs,
    runverbs,
    serveverbs,
    setupverbs,
    stackverbs,
    sweepverbs,
    webverbs,
    workerverbs,
)

_ALONE = (
    runverbs.train, runverbs.rehearse, runverbs.attach, runverbs.adopt, runverbs.recover, runverbs.cancel, runverbs.resume,
    runverbs.extend, ledgerverbs.runs, ledgerverbs.remove, marketverbs.clouds, marketverbs.offers, marketverbs.fit,
    runverbs.logs, runverbs.ssh, runverbs.tunnel, runverbs.render, runverbs.download,
    recordverbs.show, recordverbs.rerun, recordverbs.diff, recordverbs.compare, recordverbs.plot,
    queueverbs.submit, sweepverbs.sweep, workerverbs.workers, queueverbs.approve, queueverbs.reject,
    resultverbs.deliver, resultverbs.gc, afterverbs.merge, afterverbs.ask, afterverbs.push,
    serveverbs.serve_model, serveverbs.compare_answers, cycleverbs.cycle, ggufverbs.gguf, ggufverbs.ollama,
    stackverbs.up, stackverbs.preview, stackverbs.refresh, stackverbs.destroy, stackverbs.outputs, stackverbs.env,
    stackverbs.end, stackverbs.reap,
    repoverbs.init, repoverbs.upgrade, machineverbs.doctor, setupverbs.setup, playverbs.play,
)  # fmt: skip
_GROUPS = {
    "results": {"list": resultverbs.results_list, "show": resultverbs.results_show, "verify": resultverbs.results_verify},
    "audit": {"account": stackverbs.audit, "log": auditverbs.audit_log, "verify": auditverbs.audit_verify},
    "data": {"build": dataverbs.data_build},
    "gitops": {"plan": gitopsverbs.gitops_plan, "sync": gitopsverbs.gitops_sync, "watch": gitopsverbs.gitops_watch},
    "costs": {"spent": ledgerverbs.costs, "table": marketverbs.costs_table},
    "queue": {
        "list": queueverbs.queue,
        "hold": queueverbs.queue_hold,
        "release": queueverbs.queue_release,
        "prefer": queueverbs.queue_prefer,
    },
    "store": {
        "start": machineverbs.store_start,
        "stop": machineverbs.store_stop,
        "status": machineverbs.store_status,
        "check": machineverbs.store_check,
        "delete": resultverbs.store_delete,
    },
    "notify": {"test": noticeverbs.notify_test},
    "ledger": {
        "backup": ledgerverbs.ledger_backup,
        "restore": ledgerverbs.ledger_restore,
        "rebuild": ledgerverbs.ledger_rebuild,
    },
    "cache": {"list": cacheverbs.cache, "clean": cacheverbs.cache_clean},
    "venvs": {"clean": machineverbs.venvs_clean},
    "serve": {"start": webverbs.serve, "link": webverbs.serve_link},
    "worker": {
        "start": workerverbs.worker,
        "add": workerverbs.worker_add,
        "drain": workerverbs.worker_drain,
        "rotate": workerverbs.worker_rotate,
        "remove": workerverbs.worker_remove,
    },
    "account": {"list": accountverbs.account_list, "add": accountverbs.account_add, "change": accountverbs.account_change},
    "team": {"list": accountverbs.team_list, "set": accountverbs.team_set},
    "token": {"list": accountverbs.token_list, "create": accountverbs.token_create, "revoke": accountverbs.token_revoke},
    "image": {"build": machineverbs.image_build, "push": machineverbs.image_push},
}
"""Verbs behind a word, as in store.start."""
_DEFAULTS = {"serve": "start", "worker": "start", "results": "list", "audit": "account", "queue": "list", "cache": "list", "costs": "spent"}
"""What such a word alone does."""


def verbs() -> Collection:
    """Return the verbs as a collection of Invoke's, to which a repository may add tasks of its own."""
    ns = Collection(*_ALONE)
    for word, tasks in _GROUPS.items():
        group = Collection(word)
        for name, task in tasks.items():
            group.add_task(task, name=name, default=name == _DEFAULTS.get(word))
        ns.add_collection(group)
    return ns
