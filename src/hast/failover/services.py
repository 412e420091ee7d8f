"""Services that run on the master only: systemd units, or the user's own start, stop and status commands; and hooks."""

from __future__ import annotations

from collections.abc import Sequence

from hast.config.failover_model import Hook, Service
from hast.failover.part import Context, Part, PartError

SHELL = ("/bin/sh", "-c")


class UnitService(Part):
    """A systemd unit."""

    def __init__(self, service: Service) -> None:
        assert service.unit is not None
        self.name = f"service {service.name}"
        self.timeout_s = service.timeout_s
        self._unit = service.unit

    def is_up(self, context: Context) -> bool | None:
        """`systemctl is-active`; a unit that is starting or stopping is neither up nor down."""
        state = context.commands.run(("systemctl", "is-active", self._unit), context.left_s(), marked=False).output
        if state in ("active", "reloading"):
            return True
        return False if state in ("inactive", "failed", "unknown") else None

    def up(self, context: Context) -> None:
        """Start."""
        self._do(context, "start")

    def down(self, context: Context) -> None:
        """Stop."""
        self._do(context, "stop")

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        return f"systemctl {'start' if up else 'stop'} {self._unit}"

    def _do(self, context: Context, verb: str) -> None:
        result = context.commands.run(("systemctl", verb, self._unit), context.left_s(), marked=False)
        if result.code != 0:
            context.log.error(f"Unable to {verb} service {self._unit}: {result.problem()}.")
            raise PartError(f"{result.problem()}; see systemctl status {self._unit}")
        context.log.debug(f"Service {self._unit} {'started' if verb == 'start' else 'stopped'}.")


class CommandService(Part):
    """Shell commands. Without `status`, start and stop are run every time and must stand that."""

    def __init__(self, service: Service) -> None:
        assert service.start is not None
        assert service.stop is not None
        self.name = f"service {service.name}"
        self.timeout_s = service.timeout_s
        self._service = service
        self._start = service.start
        self._stop = service.stop

    @property
    def blind(self) -> bool:
        """Without a status command."""
        return self._service.status is None

    def is_up(self, context: Context) -> bool | None:
        """Whether the status command ends with 0."""
        if self._service.status is None:
            return None
        return context.commands.run((*SHELL, self._service.status), context.left_s(), marked=False).code == 0

    def up(self, context: Context) -> None:
        """Run the start command."""
        self._do(context, "start", self._start)

    def down(self, context: Context) -> None:
        """Run the stop command."""
        self._do(context, "stop", self._stop)

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        return f"{self.name}: {self._start if up else self._stop}"

    def _do(self, context: Context, verb: str, command: str) -> None:
        result = context.commands.run((*SHELL, command), context.left_s(), marked=False)
        if result.code != 0:
            context.log.error(f"Unable to {verb} service {self._service.name}: {result.problem()}.")
            raise PartError(result.problem())
        context.log.debug(f"Service {self._service.name} {'started' if verb == 'start' else 'stopped'}.")


class HookPart(Part):
    """The user's commands at one end of the order. They run every time, in file order; a failure ends the step."""

    def __init__(self, name: str, up: Sequence[Hook], down: Sequence[Hook]) -> None:
        self.name = name
        self.timeout_s = max(sum(hook.timeout_s for hook in hooks) for hooks in (up, down, ()))
        self._up = tuple(up)
        self._down = tuple(down)

    @property
    def blind(self) -> bool:
        """Always."""
        return True

    def is_up(self, context: Context) -> bool | None:
        """Cannot be told."""
        return None

    def up(self, context: Context) -> None:
        """The hooks of `master`."""
        self._run(context, self._up)

    def down(self, context: Context) -> None:
        """The hooks of `slave`."""
        self._run(context, self._down)

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        return "; ".join(hook.command for hook in (self._up if up else self._down))

    def _run(self, context: Context, hooks: Sequence[Hook]) -> None:
        for hook in hooks:
            left_s = min(hook.timeout_s, context.left_s())
            result = context.commands.run((*SHELL, hook.command), left_s, marked=False)
            if result.code != 0:
                context.log.error(f"Hook {hook.when} failed: {hook.command}: {result.problem()}.")
                raise PartError(f"{hook.command}: {result.problem()}")
