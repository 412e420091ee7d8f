"""hastctl: the operator's commands (specification section 9, docs/hastctl.8.md).

`main` is the console script. Every command ends with an exit code that tells the truth and at most one line of text for
each thing that went wrong. Imports are made where they are needed, because scripts call this in loops.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hast.cli import completion, drill, watching
from hast.cli.group import EX_USAGE, NAMES, REQUIRED_NAMES, cli, command, providers, resource_names, session_of
from hast.cli.plan import PLAN, create_plan, show_plan
from hast.cli.session import DISK_TIMEOUT_S, STATUS_TIMEOUT_S, Failure, complain, first_code, say_error

if TYPE_CHECKING:
    from hast.config.model import Configuration

__all__ = ["cli", "drill", "main", "run", "watching"]
EX_DATAERR = 65
EX_IOERR = 74
EX_CONFIG = 78
EX_INTERRUPTED = 130
ROLE_TIMEOUT_S = 120.0
RESOLVE_TIMEOUT_S = 300.0
REPLY_MARGIN_S = 5.0
NO_WAIT_TIMEOUT_S = 10.0


# --- commands that change something ---------------------------------------------------------------------------------


def _size(label: str) -> Callable[[click.Context, click.Parameter, str | None], int]:
    def read(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int:
        from hast.format.geometry import parse_size

        try:
            return 0 if value is None else parse_size(value)
        except ValueError:
            raise Failure(f"Invalid {label}", EX_USAGE) from None

    return read


@command
@click.option("-e", "extentsize", metavar="SIZE", callback=_size("extentsize"), help="Extent size, default 2M.")
@click.option("-k", "keepdirty", metavar="N", callback=_size("keepdirty"), help="Extents kept dirty, default 64.")
@click.option("-m", "mediasize", metavar="SIZE", callback=_size("mediasize"), help="Use less than the provider.")
@REQUIRED_NAMES
@PLAN
def create(
    context: click.Context, names: tuple[str, ...], extentsize: int, keepdirty: int, mediasize: int, plan: bool
) -> None:
    """Initialize the local providers of NAMES. Metadata and map are overwritten, data is not touched."""
    from hast.worker.disk import provision
    from hast.worker.disk.provider_open import ProviderError

    session = session_of(context)
    configuration = session.configuration()
    in_use = _used_by_daemon(configuration)
    exit_code = 0
    for name in names:
        try:
            if name not in configuration.resources:
                raise ProviderError(f"Unknown resource {name}.", EX_DATAERR)
            resource = configuration.resources[name]
            if resource.local in in_use:
                raise ProviderError(in_use[resource.local], 66)
            if plan:
                _print(create_plan(resource, provision.foresee(resource, extentsize, keepdirty, mediasize)))
            else:
                provision.create(resource, extentsize, keepdirty, mediasize)
        except ProviderError as error:
            say_error(str(error))
            exit_code = exit_code or error.exit_code
    context.exit(exit_code)


def _used_by_daemon(configuration: Configuration) -> dict[str, str]:
    """Local path to the reason why it may not be overwritten, as a running hastd tells."""
    from hast.cli.client import ControlClient, ControlError

    request = {"command": "status", "resources": ["all"]}
    try:
        entries = ControlClient(configuration.control).ask(request, STATUS_TIMEOUT_S).get("resources") or []
    except ControlError:
        return {}
    return {
        entry["localpath"]: f"Provider {entry['localpath']} is in use: hastd runs resource {entry['name']} in role "
        f"{entry['role']}; run: hastctl role init {entry['name']}"
        for entry in entries
        if entry.get("role") not in (None, "init")
    }


@command
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.argument("targets", metavar="NAME|PATH ...", nargs=-1, required=True, shell_complete=providers)
@PLAN
def wipe(context: click.Context, targets: tuple[str, ...], yes: bool, plan: bool) -> None:
    """Remove metadata and map from local providers, after saying what is on them. Data is not touched."""
    from hast.cli.wipe import run

    session = session_of(context)
    try:
        used = _used_by_daemon(session.configuration())
    except Failure:
        used = {}
    context.exit(run(session, targets, yes, used, plan))


@command
@click.argument("new_role", metavar="init|primary|secondary", type=click.Choice(["init", "primary", "secondary"]))
@REQUIRED_NAMES
@click.option("--force", is_flag=True, help="Take an inconsistent or outdated copy; take a device from its users.")
@click.option("--wait/--no-wait", default=True, help="Return when the role is true (default), or at once.")
@click.option("--timeout", default=ROLE_TIMEOUT_S, metavar="SECONDS", type=click.FloatRange(min=0.1, max=3600))
@PLAN
def role(
    context: click.Context, new_role: str, names: tuple[str, ...], force: bool, wait: bool, timeout: float, plan: bool
) -> None:
    """Change the role of NAMES, or of all. Exit code 0 means: the role is true and a primary's device is there."""
    request: dict[str, Any] = {"command": "role", "role": new_role, "resources": list(names)}
    request |= {"force": force, "wait": wait, "timeout_s": timeout}
    if plan:
        context.exit(show_plan(session_of(context), request))
    reply = session_of(context).ask(request, timeout + REPLY_MARGIN_S if wait else NO_WAIT_TIMEOUT_S)
    entries = reply.get("resources") or []
    for entry in entries:
        if entry.get("error"):
            say_error(f"[{entry['name']}] {_in_words(entry)}")
        for warning in entry.get("warnings") or ():
            say_error(f"[{entry['name']}] warning: {warning}")
    context.exit(first_code(entries))


def _in_words(entry: dict[str, Any]) -> str:
    """Why a role was not changed; where the reference has only a number, the number and the reason."""
    return f"Received error 1 from hastd: {entry['error']}" if entry.get("code") == 1 else str(entry["error"])


@command
@REQUIRED_NAMES
@click.option("--discard-local", is_flag=True, help="Throw this node's changes away at the next connection.")
@click.option("--abandon", is_flag=True, help="Take that order back, while it was not carried out.")
@click.option("--force", is_flag=True, help="Give the order though no split brain is known here.")
@click.option("--json", "as_json", is_flag=True, help="The results, as docs/control.md describes.")
@PLAN
def resolve(
    context: click.Context,
    names: tuple[str, ...],
    discard_local: bool,
    abandon: bool,
    force: bool,
    as_json: bool,
    plan: bool,
) -> None:
    """Resolve a split brain of NAMES. Run it on the node whose changes are to be lost; a map of them is kept."""
    from hast.cli import output

    if discard_local is abandon:
        text = "Say which: --discard-local throws this node's changes away, --abandon takes that back."
        raise Failure(text, EX_USAGE)
    order = "discard" if discard_local else "abandon"
    request = {"command": "resolve", "order": order, "resources": list(names), "force": force}
    if plan:
        context.exit(show_plan(session_of(context), request))
    entries = session_of(context).ask(request, RESOLVE_TIMEOUT_S).get("resources") or []
    if as_json:
        _print_json(entries)
    for entry in entries:
        if entry.get("error"):
            say_error(f"[{entry['name']}] {entry['error']}")
        elif not as_json:
            _print(output.resolve_lines(entry))
    context.exit(first_code(entries))


@command
@click.argument("rate", metavar="RATE")
@REQUIRED_NAMES
def sync_rate(context: click.Context, rate: str, names: tuple[str, ...]) -> None:
    """Limit synchronization of NAMES, or of all, to RATE bytes per second (50M), or as clients allow (auto).

    0 or off removes the limit.
    """
    from hast.format.geometry import parse_size

    try:
        bytes_s = "auto" if rate == "auto" else 0 if rate in ("off", "none", "unlimited") else parse_size(rate)
    except ValueError:
        text = f"Invalid rate {rate!r}: use auto, or a number of bytes per second such as 50M."
        raise Failure(text, EX_USAGE) from None
    _order(context, names, STATUS_TIMEOUT_S, command="sync-rate", bytes_s=bytes_s)


def _order(context: click.Context, names: Sequence[str], limit_s: float, plan: bool = False, **request: Any) -> None:
    """Have hastd do this to each; complains of those that could not be done, and ends with the first one's code."""
    if plan:
        context.exit(show_plan(session_of(context), {"resources": list(names), **request}))
    entries = session_of(context).ask({"resources": list(names), **request}, limit_s).get("resources") or []
    if code := complain(entries):
        context.exit(code)


@command
@REQUIRED_NAMES
@PLAN
def detach(context: click.Context, names: tuple[str, ...], plan: bool) -> None:
    """Take the local disks of NAMES out of service for planned work; a primary goes on with the other host's copy."""
    _order(context, names, DISK_TIMEOUT_S, plan, command="detach")


@command
@REQUIRED_NAMES
@PLAN
def attach(context: click.Context, names: tuple[str, ...], plan: bool) -> None:
    """Take the local disks of NAMES into service again; they take what they lack from the other host."""
    _order(context, names, DISK_TIMEOUT_S, plan, command="attach")


@command
@click.argument("name", shell_complete=resource_names)
@click.argument("path", type=click.Path())
@PLAN
def replace(context: click.Context, name: str, path: str, plan: bool) -> None:
    """Put the disk PATH in the place of NAME's local disk while it serves; PATH is overwritten with the other copy."""
    _order(context, [name], DISK_TIMEOUT_S, plan, command="replace", path=path)
    print(f"{name} uses {path} now. Write it into hast.conf (local {path}), before hastd is started again.")


@command
@REQUIRED_NAMES
@click.option("--repair", is_flag=True, help="Write what differs to the other node as it is on this one.")
@click.option("--stop", is_flag=True, help="End the verification that is under way.")
@click.option("--wait/--no-wait", default=True, help="Return when it has ended (default), or when it has begun.")
@PLAN
def verify(context: click.Context, names: tuple[str, ...], repair: bool, stop: bool, wait: bool, plan: bool) -> None:
    """Compare both copies of NAMES block for block, on the primary, while clients go on."""
    from hast.cli import verify as verifying

    session = session_of(context)
    if stop and (repair or plan):
        raise Failure("--stop goes with nothing else.", EX_USAGE)
    if plan:
        context.exit(show_plan(session, {"command": "verify", "resources": list(names), "repair": repair}))
    context.exit(verifying.stop(session, names) if stop else verifying.run(session, names, repair, wait))


@command
@click.option("--show", is_flag=True, help="Print the fingerprint of the key that is there.")
@click.option("--next", "following", is_flag=True, help="Make the key that this node is to change to.")
@click.option("--switch", is_flag=True, help="Change to that key.")
def keygen(context: click.Context, show: bool, following: bool, switch: bool) -> None:
    """Make the key by which this node proves to the other who it is; hastd is not needed."""
    from hast.cli import keygen as keys

    if show + following + switch > 1:
        raise Failure("One of --show, --next and --switch at a time.", EX_USAGE)
    if show:
        _print(keys.show())
    elif switch:
        _print(keys.switch(session_of(context)))
    else:
        _print(keys.make(session_of(context), following=following))


@command
def reload(context: click.Context) -> None:
    """Make hastd read its configuration again and wait for it; on an error the old one stays."""
    session_of(context).ask({"command": "reload"}, ROLE_TIMEOUT_S)


@command
@click.option("--timeout", "limit_s", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Seconds.")
def upgrade(context: click.Context, limit_s: float) -> None:
    """Replace hastd and its workers by the code that is installed now; devices see a pause, never an error."""
    from hast.cli import upgrade as upgrading

    print(upgrading.run(session_of(context), limit_s))


# --- commands that show something -------------------------------------------------------------------------------------


def _print(lines: Sequence[str]) -> None:
    if lines:
        print("\n".join(lines))


@command
@NAMES
@click.option("--table", is_flag=True, help="One line a resource.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as docs/control.md describes.")
@click.option("--watch", is_flag=True, help="Show it again and again, with a progress bar while synchronizing.")
@click.option("--interval", default=1.0, metavar="SECONDS", type=click.FloatRange(min=0.1, max=3600))
@click.option("--both", is_flag=True, help="The other node's side as well, and what is wrong on either.")
@click.option("--check", is_flag=True, help="One line for Nagios and its like; exit code 0 to 3.")
@click.option("--degraded-critical", default="1h", metavar="TIME", help="With --check: 90s, 5m, 1h (default) or never.")
@click.option("--at-risk-critical", metavar="SIZE", help="With --check: bytes on one node alone, such as 1G.")
def status(
    context: click.Context,
    names: tuple[str, ...],
    table: bool,
    as_json: bool,
    watch: bool,
    interval: float,
    both: bool,
    check: bool,
    degraded_critical: str,
    at_risk_critical: str | None,
) -> None:
    """Show role, state and peer of NAMES, of all by default."""
    from hast.cli import output

    if check:
        _check(context, names, degraded_critical, at_risk_critical)
    if both:
        from hast.cli.look import status_of_both

        _print(status_of_both(names, as_json))
        return
    session = session_of(context)
    if watch:
        from hast.cli.watch import watch as run

        try:
            run(lambda: session.status(names), interval)
        except KeyboardInterrupt:
            context.exit(EX_INTERRUPTED)
    entries = session.status(names)
    if as_json:
        _print_json(entries)
    elif table:
        _print(output.table(entries))
    else:
        _print([line for entry in entries for line in output.status_block(entry)])
    context.exit(first_code(entries))


def _check(context: click.Context, names: tuple[str, ...], degraded: str, at_risk: str | None) -> NoReturn:
    from hast.cli.look import checked

    try:
        code, line = checked(names, degraded, at_risk)
    except ValueError as error:
        raise Failure(str(error), EX_USAGE) from None
    print(line)
    context.exit(code)


@command
@NAMES
@click.option("--json", "as_json", is_flag=True, help="Everything, as docs/control.md describes.")
def list_(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Show everything about NAMES, of all by default: as status, and statistics."""
    from hast.cli import output

    entries = session_of(context).status(names)
    if as_json:
        _print_json(entries)
    else:
        _print([line for entry in entries for line in output.list_block(entry)])
    context.exit(first_code(entries))


def _print_json(entries: Sequence[dict[str, Any]]) -> None:
    import json

    print(json.dumps({"resources": list(entries)}, indent=2))


@command
@NAMES
def dump(context: click.Context, names: tuple[str, ...]) -> None:
    """Show the metadata on the local providers of NAMES, of all by default; hastd is not needed."""
    from hast.cli import output
    from hast.worker.disk import provision
    from hast.worker.disk.provider_open import ProviderError

    configuration = session_of(context).configuration()
    wanted = list(configuration.resources) if not names or names[0] == "all" else list(names)
    exit_code = 0
    for name in wanted:
        try:
            if name not in configuration.resources:
                raise ProviderError(f"Unknown resource {name}.", EX_DATAERR)
            _print(output.dump_block(provision.read(configuration.resources[name])))
        except ProviderError as error:
            say_error(str(error))
            exit_code = exit_code or error.exit_code
    context.exit(exit_code)


@command
def events(context: click.Context) -> None:
    """Print what happens to the resources, one JSON object a line, until interrupted."""
    import json

    from hast.cli.client import ControlError

    try:
        for event in session_of(context).client().events():
            print(json.dumps(event), flush=True)
    except ControlError as error:
        raise Failure(str(error), error.exit_code) from None


@command
@click.argument("target", metavar="[ADDRESS|RESOURCE]", required=False, shell_complete=resource_names)
def trust(context: click.Context, target: str | None) -> None:
    """Show the fingerprint of the other node's key and compare it with hast.conf; nothing is written."""
    from hast.cli.trust import run

    context.exit(run(session_of(context), target))


@command
def check(context: click.Context) -> None:
    """Check the configuration file without touching anything."""
    from hast.cli import output

    session = session_of(context)
    configuration = session.configuration()
    if not configuration.resources:
        raise Failure(output.checked(session.config_path, 0), EX_CONFIG)
    print(output.checked(session.config_path, len(configuration.resources)))
    if any(resource.device == "auto" for resource in configuration.resources.values()):
        from hast.device.device import survey

        print(output.device_taken(survey()))
    if any(resource.is_secured for resource in configuration.resources.values()):
        from hast.daemon.kernel_tls import missing

        print(output.tls_taken(missing()))
    from hast.cli.check import export_findings, link_findings

    found = [*link_findings(configuration), *export_findings()]
    for finding in found:
        say_error(f"{'error' if finding.is_error else 'warning'}: {finding.text}")
    context.exit(EX_CONFIG if any(finding.is_error for finding in found) else 0)


# --- the process ------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command; never returns."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if not argv and not os.environ.get(completion.variable("hastctl")):
        with click.Context(cli, info_name="hastctl") as context:
            click.echo(context.get_help(), err=True)
        return EX_USAGE
    try:
        result = cli.main(list(argv), prog_name="hastctl", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.UsageError as error:
        say_error(f"hastctl: {error.format_message()}")
        if error.ctx is not None:
            say_error(error.ctx.get_usage())
        return EX_USAGE
    except Failure as error:
        say_error(str(error))
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return EX_IOERR
    except (KeyboardInterrupt, click.Abort):
        return EX_INTERRUPTED


if __name__ == "__main__":
    main()
