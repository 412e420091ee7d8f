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

from hast.cli import completion
from hast.cli.session import DISK_TIMEOUT_S, STATUS_TIMEOUT_S, Failure, Session, say_error

if TYPE_CHECKING:
    from hast.config.model import Configuration

DEFAULT_CONFIG = "/etc/hast.conf"
EX_USAGE = 64
EX_DATAERR = 65
EX_IOERR = 74
EX_CONFIG = 78
EX_INTERRUPTED = 130
ROLE_TIMEOUT_S = 120.0
RESOLVE_TIMEOUT_S = 300.0
REPLY_MARGIN_S = 5.0
NO_WAIT_TIMEOUT_S = 10.0


def first_code(entries: Sequence[dict[str, Any]]) -> int:
    """Exit code of a command over several resources: the first error, else 0."""
    return next((int(entry.get("code") or 1) for entry in entries if entry.get("error")), 0)


def _remember_config(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(dict)["config"] = value


def _count_debug(context: click.Context, _parameter: click.Parameter, value: int) -> None:
    found = context.ensure_object(dict)
    found["debug"] = found.get("debug", 0) + value


def _help(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(context.get_help(), err=True)
        context.exit(EX_USAGE)


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from hast.cli import version

        print(version.line("hastctl"))
        context.exit(0)


def _resource_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """For the shell's completion; nothing when the configuration cannot be read."""
    try:
        names = list(_session(context).configuration().resources)
    except Failure:
        return []
    return [name for name in (*names, "all") if name.startswith(incomplete)]


def _providers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    if "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    return [name for name in _resource_names(context, parameter, incomplete) if name != "all"]


_NAMES = click.argument("names", nargs=-1, shell_complete=_resource_names)
_REQUIRED_NAMES = click.argument("names", nargs=-1, required=True, shell_complete=_resource_names)


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    """-c, -d and -h, which every command and hastctl itself take."""
    for option in (
        click.option("-c", "config", metavar="CONFIG", expose_value=False, callback=_remember_config, help="hast.conf"),
        click.option("-d", "debug", count=True, expose_value=False, callback=_count_debug, help="Show the dialogue."),
        click.option("-h", "--help", is_flag=True, expose_value=False, is_eager=True, callback=_help, help="Usage."),
    ):
        function = option(function)
    return function


def _session(context: click.Context) -> Session:
    options = context.ensure_object(dict)
    return Session(options.get("config") or DEFAULT_CONFIG, options.get("debug", 0))


@click.group(add_help_option=False, context_settings={"max_content_width": 100})
@_common
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="The version.")
def cli() -> None:
    """Control HAST resources of this node through hastd."""


def _command(function: Callable[..., Any]) -> click.Command:
    name = function.__name__.rstrip("_").replace("_", "-")
    return cli.command(name, add_help_option=False)(click.pass_context(_common(function)))


# --- commands that change something ---------------------------------------------------------------------------------


def _size(label: str) -> Callable[[click.Context, click.Parameter, str | None], int]:
    def read(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int:
        from hast.format.geometry import parse_size

        try:
            return 0 if value is None else parse_size(value)
        except ValueError:
            raise Failure(f"Invalid {label}", EX_USAGE) from None

    return read


@_command
@click.option("-e", "extentsize", metavar="SIZE", callback=_size("extentsize"), help="Extent size, default 2M.")
@click.option("-k", "keepdirty", metavar="N", callback=_size("keepdirty"), help="Extents kept dirty, default 64.")
@click.option("-m", "mediasize", metavar="SIZE", callback=_size("mediasize"), help="Use less than the provider.")
@_REQUIRED_NAMES
def create(context: click.Context, names: tuple[str, ...], extentsize: int, keepdirty: int, mediasize: int) -> None:
    """Initialize the local providers of NAMES. Metadata and map are overwritten, data is not touched."""
    from hast.worker.disk import provision
    from hast.worker.disk.provider_open import ProviderError

    session = _session(context)
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


@_command
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.argument("targets", metavar="NAME|PATH ...", nargs=-1, required=True, shell_complete=_providers)
def wipe(context: click.Context, targets: tuple[str, ...], yes: bool) -> None:
    """Remove metadata and map from local providers, after saying what is on them. Data is not touched."""
    from hast.cli.wipe import run

    session = _session(context)
    try:
        used = _used_by_daemon(session.configuration())
    except Failure:
        used = {}
    context.exit(run(session, targets, yes, used))


@_command
@click.argument("new_role", metavar="init|primary|secondary", type=click.Choice(["init", "primary", "secondary"]))
@_REQUIRED_NAMES
@click.option("--force", is_flag=True, help="Take an inconsistent or outdated copy; take a device from its users.")
@click.option("--wait/--no-wait", default=True, help="Return when the role is true (default), or at once.")
@click.option("--timeout", default=ROLE_TIMEOUT_S, metavar="SECONDS", type=click.FloatRange(min=0.1, max=3600))
def role(
    context: click.Context, new_role: str, names: tuple[str, ...], force: bool, wait: bool, timeout: float
) -> None:
    """Change the role of NAMES, or of all. Exit code 0 means: the role is true and a primary's device is there."""
    request: dict[str, Any] = {"command": "role", "role": new_role, "resources": list(names)}
    request |= {"force": force, "wait": wait, "timeout_s": timeout}
    reply = _session(context).ask(request, timeout + REPLY_MARGIN_S if wait else NO_WAIT_TIMEOUT_S)
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


@_command
@_REQUIRED_NAMES
@click.option("--discard-local", is_flag=True, help="Throw this node's changes away at the next connection.")
@click.option("--abandon", is_flag=True, help="Take that order back, while it was not carried out.")
@click.option("--force", is_flag=True, help="Give the order though no split brain is known here.")
@click.option("--json", "as_json", is_flag=True, help="The results, as docs/control.md describes.")
def resolve(
    context: click.Context, names: tuple[str, ...], discard_local: bool, abandon: bool, force: bool, as_json: bool
) -> None:
    """Resolve a split brain of NAMES. Run it on the node whose changes are to be lost; a map of them is kept."""
    from hast.cli import output

    if discard_local is abandon:
        text = "Say which: --discard-local throws this node's changes away, --abandon takes that back."
        raise Failure(text, EX_USAGE)
    order = "discard" if discard_local else "abandon"
    request = {"command": "resolve", "order": order, "resources": list(names), "force": force}
    entries = _session(context).ask(request, RESOLVE_TIMEOUT_S).get("resources") or []
    if as_json:
        _print_json(entries)
    for entry in entries:
        if entry.get("error"):
            say_error(f"[{entry['name']}] {entry['error']}")
        elif not as_json:
            _print(output.resolve_lines(entry))
    context.exit(first_code(entries))


@_command
@click.argument("rate", metavar="RATE")
@_REQUIRED_NAMES
def sync_rate(context: click.Context, rate: str, names: tuple[str, ...]) -> None:
    """Limit synchronization of NAMES, or of all, to RATE bytes per second (50M); 0 or off removes the limit."""
    from hast.format.geometry import parse_size

    try:
        bytes_s = 0 if rate in ("off", "none") else parse_size(rate)
    except ValueError:
        raise Failure(f"Invalid rate {rate!r}: use a number of bytes per second such as 50M.", EX_USAGE) from None
    _order(context, names, STATUS_TIMEOUT_S, command="sync-rate", bytes_s=bytes_s)


def _order(context: click.Context, names: Sequence[str], limit_s: float, **request: Any) -> None:
    """Have hastd do this to each; complains of those that could not be done, and ends with the first one's code."""
    entries = _session(context).ask({"resources": list(names), **request}, limit_s).get("resources") or []
    for entry in entries:
        if entry.get("error"):
            say_error(f"[{entry['name']}] {entry['error']}")
    code = first_code(entries)
    if code:
        context.exit(code)


@_command
@_REQUIRED_NAMES
def detach(context: click.Context, names: tuple[str, ...]) -> None:
    """Take the local disks of NAMES out of service for planned work; a primary goes on with the other host's copy."""
    _order(context, names, DISK_TIMEOUT_S, command="detach")


@_command
@_REQUIRED_NAMES
def attach(context: click.Context, names: tuple[str, ...]) -> None:
    """Take the local disks of NAMES into service again; they take what they lack from the other host."""
    _order(context, names, DISK_TIMEOUT_S, command="attach")


@_command
@click.argument("name", shell_complete=_resource_names)
@click.argument("path", type=click.Path())
def replace(context: click.Context, name: str, path: str) -> None:
    """Put the disk PATH in the place of NAME's local disk while it serves; PATH is overwritten with the other copy."""
    _order(context, [name], DISK_TIMEOUT_S, command="replace", path=path)
    print(f"{name} uses {path} now. Write it into hast.conf (local {path}), before hastd is started again.")


@_command
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
        _print(keys.switch(_session(context)))
    else:
        _print(keys.make(_session(context), following=following))


@_command
def reload(context: click.Context) -> None:
    """Make hastd read its configuration again and wait for it; on an error the old one stays."""
    _session(context).ask({"command": "reload"}, ROLE_TIMEOUT_S)


@_command
@click.option("--timeout", "limit_s", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Seconds.")
def upgrade(context: click.Context, limit_s: float) -> None:
    """Replace hastd and its workers by the code that is installed now; devices see a pause, never an error."""
    from hast.cli import upgrade as upgrading

    print(upgrading.run(_session(context), limit_s))


# --- commands that show something -------------------------------------------------------------------------------------


def _print(lines: Sequence[str]) -> None:
    if lines:
        print("\n".join(lines))


@_command
@_NAMES
@click.option("--table", is_flag=True, help="One line a resource.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as docs/control.md describes.")
@click.option("--watch", is_flag=True, help="Show it again and again, with a progress bar while synchronizing.")
@click.option("--interval", default=1.0, metavar="SECONDS", type=click.FloatRange(min=0.1, max=3600))
def status(
    context: click.Context, names: tuple[str, ...], table: bool, as_json: bool, watch: bool, interval: float
) -> None:
    """Show role, state and peer of NAMES, of all by default."""
    from hast.cli import output

    session = _session(context)
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


@_command
@_NAMES
@click.option("--json", "as_json", is_flag=True, help="Everything, as docs/control.md describes.")
def list_(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Show everything about NAMES, of all by default: as status, and statistics."""
    from hast.cli import output

    entries = _session(context).status(names)
    if as_json:
        _print_json(entries)
    else:
        _print([line for entry in entries for line in output.list_block(entry)])
    context.exit(first_code(entries))


def _print_json(entries: Sequence[dict[str, Any]]) -> None:
    import json

    print(json.dumps({"resources": list(entries)}, indent=2))


@_command
@_NAMES
def dump(context: click.Context, names: tuple[str, ...]) -> None:
    """Show the metadata on the local providers of NAMES, of all by default; hastd is not needed."""
    from hast.cli import output
    from hast.worker.disk import provision
    from hast.worker.disk.provider_open import ProviderError

    configuration = _session(context).configuration()
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


@_command
def events(context: click.Context) -> None:
    """Print what happens to the resources, one JSON object a line, until interrupted."""
    import json

    from hast.cli.client import ControlError

    try:
        for event in _session(context).client().events():
            print(json.dumps(event), flush=True)
    except ControlError as error:
        raise Failure(str(error), error.exit_code) from None


@_command
@click.argument("target", metavar="[ADDRESS|RESOURCE]", required=False, shell_complete=_resource_names)
def trust(context: click.Context, target: str | None) -> None:
    """Show the fingerprint of the other node's key and compare it with hast.conf; nothing is written."""
    from hast.cli.trust import run

    context.exit(run(_session(context), target))


@_command
def check(context: click.Context) -> None:
    """Check the configuration file without touching anything."""
    from hast.cli import output

    session = _session(context)
    configuration = session.configuration()
    if not configuration.resources:
        raise Failure(output.checked(session.config_path, 0), EX_CONFIG)
    print(output.checked(session.config_path, len(configuration.resources)))
    if any(resource.device == "auto" for resource in configuration.resources.values()):
        from hast.device.device import survey

        print(output.device_taken(survey()))
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
