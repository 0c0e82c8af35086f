"""DeviceProcesses: the processes of a site that trains on several devices, each of which answers every question."""

import atexit
import contextlib
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from lit_dist.federation.client import SiteClient
from lit_dist.federation.refusal import refusal
from lit_dist.federation.wire import Message, pack
from lit_dist.utils.child_processes import end_with_the_parent, prepared
from lit_dist.utils.errors import InputError

_RANK = "LOCAL_RANK"  # by which Lightning knows that its processes have been started
_GRACE = 10.0  # seconds that the others have when one has refused; they may wait for it without an end
_DONE, _REFUSED = b"done", b"refused"


def in_device_processes() -> bool:
    """Whether this process is one of several that train together."""
    return _RANK in os.environ


class DeviceProcesses:
    """Asks all processes, and gives the answer of the first.

    Lightning itself would start the further processes by the command line that it is in, which is the engine's. All
    that a site must remember is in files, so processes that have failed are started anew with the next question.

    Args:
        make: Makes the client of a process; it must be possible to pickle it.
        size: The number of processes.
    """

    def __init__(self, make: Callable[[], "SiteClient | DeviceProcesses"], size: int) -> None:
        self.make = make
        self.size = size
        self._members: list[tuple[BaseProcess, Connection]] = []
        atexit.register(self.close)  # comes before multiprocessing waits for its processes

    def answer(self, question: str, content: Message) -> Message:
        """Answer a question, see ``SiteClient.answer``; RuntimeError if a process has died."""
        if not self._members:
            self._start()
        try:
            for _, connection in self._members:
                _send(connection, question.encode(), content)
            return self._collect()
        except OSError as error:
            self.close()
            raise RuntimeError(f"a process of this site has died: {error}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all processes."""
        for process, _ in self._members:
            process.kill()
        for process, connection in self._members:
            process.join()
            connection.close()
        self._members = []

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = prepared("lit_dist.federation.build")
        for rank in range(self.size):
            ours, theirs = processes.Pipe()
            process = processes.Process(target=_serve, args=(self.make, rank, port, theirs), name=f"process {rank}")
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def _collect(self) -> Message:
        """Wait for every process; after a refusal not for long."""
        waiting = {connection: process for process, connection in self._members}
        answers: dict[Connection, Message] = {}
        refused: Message | None = None
        end = float("inf")
        while waiting and time.monotonic() < end:
            for each in wait(list(waiting), timeout=None if refused is None else max(0.0, end - time.monotonic())):
                assert isinstance(each, Connection)
                try:
                    kind, answers[each] = _receive(each)
                except (EOFError, OSError):
                    dead = waiting[each]
                    dead.join()
                    raise RuntimeError(f"{dead.name} of this site has died: {dead.exitcode}") from None
                del waiting[each]
                if kind == _REFUSED:
                    end = time.monotonic() + _GRACE
                    if refused is None or each is self._members[0][1]:  # what may be said, the first one knows best
                        refused = answers[each]
        if refused is None:
            return answers[self._members[0][1]]
        if waiting:
            self.close()
        return refused


def _serve(make: Callable[[], SiteClient | DeviceProcesses], rank: int, port: int, connection: Connection) -> None:
    """Be one of the processes."""
    end_with_the_parent()
    own = {_RANK: rank, "NODE_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in own.items()})
    client: SiteClient | None = None
    with contextlib.suppress(EOFError):  # the site has ended
        while True:
            question, content = _receive(connection)
            try:
                made = client or make()
                assert isinstance(made, SiteClient)
                client = made
                tree = client.reply(question.decode(), content)
                kind, answer = _DONE, pack(tree) if rank == 0 else []
            except InputError as error:
                kind, answer = _REFUSED, refusal(error)
            _send(connection, kind, answer)


def _send(connection: Connection, head: bytes, message: Message) -> None:
    connection.send_bytes(head)
    connection.send_bytes(str(len(message)).encode())
    for piece in message:
        connection.send_bytes(piece)


def _receive(connection: Connection) -> tuple[bytes, Message]:
    head = connection.recv_bytes()
    return head, [connection.recv_bytes() for _ in range(int(connection.recv_bytes()))]
