"""An LVM volume group on resources: activated with `vgchange`. Its volumes are mounted as pools of type filesystem."""

from __future__ import annotations

from pathlib import Path

from hast.config.failover_model import Pool
from hast.failover import blockdev, holders
from hast.failover.part import Context, Ghost, Part, PartError

REMOVE_S = 5.0


class VolumeGroup(Part):
    """One volume group. `directory` is where its physical volumes are; no other devices are looked at."""

    def __init__(self, pool: Pool, directory: str) -> None:
        self.name = f"pool {pool.name}"
        self.timeout_s = pool.timeout_s
        self._pool = pool
        self._config = f'devices {{ filter=["a|^{directory}/|","a|^/dev/loop|","a|^/dev/nbd|","r|.*|"] }}'

    def is_up(self, context: Context) -> bool | None:
        """Whether any of its volumes is active. Raises PartError when LVM does not answer."""
        output = context.run("lvs", "--noheadings", "-o", "vg_name,lv_active")
        rows = [line.split() for line in output.splitlines()]
        return any(row[0] == self._pool.name and row[1:] == ["active"] for row in rows if row)

    def ailment(self, context: Context) -> str:
        """Volumes that lie on devices that are gone."""
        lost = [path.name for path in self._volumes() if _is_lost(path)]
        return f"active, but the devices of {' '.join(lost)} are gone" if lost else ""

    def up(self, context: Context) -> None:
        """Make the physical volumes known and activate all volumes."""
        context.run("vgchange", "--config", self._config, "-a", "y", self._pool.name)
        context.log.debug(f"Volume group {self._pool.name} activated.")

    def down(self, context: Context) -> None:
        """Deactivate all volumes; those that LVM no longer finds, since their devices are gone, by device-mapper."""
        argv = ("vgchange", "--config", self._config, "-a", "n", self._pool.name)
        try:
            holders.release(
                context,
                f"Volume group {self._pool.name}",
                lambda: context.commands.run(argv, context.left_s()),
                list,
                None,
            )
        except PartError as error:
            context.log.error(f"Unable to deactivate volume group {self._pool.name}: {error}.")
            self._remove_lost(context, error)
        context.log.debug(f"Volume group {self._pool.name} deactivated.")

    def _remove_lost(self, context: Context, error: PartError) -> None:
        volumes = self._volumes()
        if not volumes or not all(map(_is_lost, volumes)):
            raise error
        for path in volumes:
            if context.commands.run(("dmsetup", "remove", "--force", str(path)), REMOVE_S).code != 0:
                raise Ghost(f"{path} lies on devices that are gone and is in use: {error}")

    def _volumes(self) -> list[Path]:
        return sorted(Path("/dev", self._pool.name).glob("*"))

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        return f"vgchange -a {'y' if up else 'n'} {self._pool.name}"


def _is_lost(path: Path) -> bool:
    number = blockdev.number_of(str(path))
    return number is not None and blockdev.is_lost(number)
