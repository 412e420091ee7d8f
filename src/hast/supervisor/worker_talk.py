"""Questions and orders to the worker of a resource, each with a deadline."""

from __future__ import annotations

from typing import Any

from hast.supervisor.worker_process import WorkerError, WorkerProcess

STATUS_DEADLINE_S = 2.0
ORDER_DEADLINE_S = 5.0


class RoleError(Exception):
    """A role change or an order that was not carried out; `str()` is one line with the reason."""


async def ask_status(worker: WorkerProcess | None) -> dict[str, Any] | None:
    """What the worker tells about itself, or {"error"} when it does not; None without a worker."""
    if worker is None or not worker.alive:
        return None
    try:
        status = (await worker.ask("status", STATUS_DEADLINE_S)).get("status")
    except WorkerError as error:
        return {"error": str(error)} if worker.alive else None
    return status if isinstance(status, dict) else {"error": "The worker process sent no status."}


async def order(worker: WorkerProcess | None, do: str, **fields: Any) -> None:
    """Have the worker do something. Nothing without a worker. Raises RoleError."""
    if worker is None or not worker.alive:
        return
    try:
        error = (await worker.ask(do, ORDER_DEADLINE_S, **fields)).get("error")
    except WorkerError as failure:
        error = str(failure)
    if error:
        raise RoleError(str(error))
