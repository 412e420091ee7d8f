"""What the agent tells of itself: the XML that `meta-data` prints."""

from __future__ import annotations

from html import escape

from hast import __version__

DEFAULT_CONTROL = "/var/run/hastctl"
DEFAULT_GRACE_S = 15

_PARAMETERS = (
    (
        "resources",
        "string",
        None,
        "Names of HAST resources",
        "Resources of hast.conf that change their role together, separated by spaces: one, or all disks of one pool.",
    ),
    ("control", "string", DEFAULT_CONTROL, "Control socket of hastd", "As hast.conf says it."),
    (
        "grace",
        "integer",
        str(DEFAULT_GRACE_S),
        "Seconds that a restart of hastd may take",
        "How long hastd is waited for before its silence counts as a failure. Workers serve on meanwhile.",
    ),
)
_ACTIONS = (
    ("start", "60s", "", ""),
    ("stop", "120s", "", ""),
    ("promote", "120s", "", ""),
    ("demote", "120s", "", ""),
    ("notify", "30s", "", ""),
    ("monitor", "30s", "10s", "Unpromoted"),
    ("monitor", "30s", "9s", "Promoted"),
    ("validate-all", "30s", "", ""),
    ("meta-data", "5s", "", ""),
)
_LONG = """Gives HAST resources their roles: secondary when started, primary when promoted, init when stopped. hastd
runs by itself on every node (its unit). The state of each copy makes the promotion score: a copy that is not good is
never promoted."""


def text() -> str:
    """The whole document."""
    parameters = "\n".join(_parameter(*each) for each in _PARAMETERS)
    actions = "\n".join(_action(*each) for each in _ACTIONS)
    return f"""<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="hast" version="{escape(__version__)}">
<version>1.0</version>
<longdesc lang="en">
{escape(_LONG)}
</longdesc>
<shortdesc lang="en">Roles of HAST resources (promotable clone)</shortdesc>
<parameters>
{parameters}
</parameters>
<actions>
{actions}
</actions>
</resource-agent>"""


def _parameter(name: str, kind: str, default: str | None, short: str, long: str) -> str:
    required = ' required="1" unique="1"' if default is None else ' required="0" unique="0"'
    value = "" if default is None else f' default="{escape(default)}"'
    return (
        f'<parameter name="{name}"{required}>\n<longdesc lang="en">{escape(long)}</longdesc>\n'
        f'<shortdesc lang="en">{escape(short)}</shortdesc>\n<content type="{kind}"{value}/>\n</parameter>'
    )


def _action(name: str, timeout: str, interval: str, role: str) -> str:
    more = f' interval="{interval}" role="{role}"' if interval else ""
    return f'<action name="{name}" timeout="{timeout}"{more}/>'
