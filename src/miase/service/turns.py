"""A queue in which clients take turns, so that nobody waits for all files of somebody else."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from miase.service.tasks import Task

if TYPE_CHECKING:
    from miase.service.workers import Worker


class Ticket:
    """A task in the queue, and what becomes of it.

    Args:
        task: to be done.
        client: whose turn it takes.
        on_start: called when a worker takes it.
        on_progress: called with the share that is done.

    Attributes:
        future: its result, a TaskError, or cancelled.
        worker: that is at it.
        is_unwanted: whether it is being cancelled.
    """

    def __init__(
        self,
        task: Task,
        client: str,
        on_start: Callable[[], None] = lambda: None,
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> None:
        self.task, self.client = task, client
        self.on_start, self.on_progress = on_start, on_progress
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.worker: Worker | None = None
        self.is_unwanted = False


class FairQueue:
    """Takes turns among clients: each gives one ticket, the earliest, before any gives a second."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Ticket]] = {}  # in the order of the turns
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, ticket: Ticket) -> None:
        """Append a ticket."""
        self._waiting.setdefault(ticket.client, deque()).append(ticket)
        self._filled.set()

    def put_back(self, ticket: Ticket) -> None:
        """Make a ticket that was taken the next one again."""
        own = self._waiting.pop(ticket.client, deque[Ticket]())
        own.appendleft(ticket)
        self._waiting = {ticket.client: own, **self._waiting}
        self._filled.set()

    async def take(self) -> Ticket:
        """The next ticket, as soon as there is one."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        client = next(iter(self._waiting))
        tickets = self._waiting.pop(client)
        ticket = tickets.popleft()
        if tickets:
            self._waiting[client] = tickets  # behind all others
        return ticket

    def remove(self, ticket: Ticket) -> bool:
        """Take a ticket out; whether it was there."""
        for client, tickets in self._waiting.items():
            if ticket in tickets:
                tickets.remove(ticket)
                if not tickets:
                    del self._waiting[client]
                return True
        return False

    def position(self, ticket: Ticket) -> int | None:
        """How many are taken before it; None where it does not wait."""
        clients = list(self._waiting)
        for turn, client in enumerate(clients):
            tickets = self._waiting[client]
            if ticket in tickets:
                own = tickets.index(ticket)
                others = (
                    min(len(self._waiting[other]), own + (1 if i < turn else 0))
                    for i, other in enumerate(clients)
                    if other != client
                )
                return own + sum(others)
        return None
