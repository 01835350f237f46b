"""The verbs of the server. Parsing only."""

from __future__ import annotations

from invoke.context import Context

from trainyard.cli.common import context, help_of, optional_path, task, verb
from trainyard.errors import UserError
from trainyard.phrasing import as_typed


@task(positional=[], help=help_of(account="who it logs in (default: you)"))
@verb
def serve_link(c: Context, account: str | None = None) -> int:
    """Print what logs an account in at a running server of this ledger, once: put it behind the server's address."""
    from trainyard.runs.verbs.accounts import create_link
    from trainyard.settings.user import user_name

    work = context()
    print(f"/login#{create_link(work, account or user_name(work.env))}")
    return 0


@task(
    positional=[],
    help=help_of(
        host="address to listen at (default: 127.0.0.1); any but loopback needs TLS, here or in a proxy",
        port="port of this machine; 0: any that is free",
        certificate="file with the certificate (PEM) that it serves TLS with",
        certificate_key="file with that one's key",
        no_schedule="do nothing by schedule: another server, cron or you do",
        behind_proxy="address of the proxy that ends TLS before it",
        no_link="print no link that logs an admin in, as what it prints is kept somewhere: invoke serve.link makes one",
        unit="print a systemd unit that does it, and nothing else",
    ),
)
@verb
def serve(
    c: Context, host: str = "127.0.0.1", port: str = "8420", certificate: str | None = None, certificate_key: str | None = None,
    behind_proxy: str | None = None, no_schedule: bool = False, no_link: bool = False, unit: bool = False,
) -> None:  # fmt: skip
    """Serve the dashboard and the REST API over this repository's runs, until Ctrl-C."""
    work = context()
    try:
        from trainyard.web.serving import ServerOptions, serve, serve_unit
    except ModuleNotFoundError as error:
        hint = "In a checkout: ./bootstrap. Elsewhere: pipx install --force 'trainyard[server]', or the same with pip or uv."
        raise UserError(f"a server needs the package '{error.name}', which this Python does not have", hint=hint) from None
    number = int(port) if port.isdigit() and int(port) < 65536 else -1
    if number < 0:
        raise UserError(f"--port {port}: it is no port", hint="Write a number from 0 (any that is free) to 65535.")
    options = ServerOptions(
        host=host, port=number, certificate=optional_path(certificate), key=optional_path(certificate_key), behind_proxy=behind_proxy,
        schedule=not no_schedule, link=not no_link,
    )  # fmt: skip
    if unit:
        print(as_typed(serve_unit(work, options)), end="")
    else:
        serve(work, options, work.ui.say)
