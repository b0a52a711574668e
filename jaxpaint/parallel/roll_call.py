"""Who is here? Before JAX joins the processes of a run, the first one counts them.

JAX waits for all processes inside one call; where one is missing, every other is aborted after the time-out, with a
stack trace that does not say which. So process 0 first listens at the coordinator's address itself, the others tell it
their numbers, and it answers that all are here, or what is wrong. Then the port is free for JAX.

A line of text each way: ``jaxpaint PROCESS of PROCESSES``, and ``go`` or the reason why not.
"""

import selectors
import socket
import time

from jaxpaint.types import InputError

PATIENCE = 5.0
"""Seconds that a connection may take to be made, or to say its line."""

GO = "go"


def roll_call(coordinator: str, processes: int, process: int, timeout: float) -> None:
    """Returns when all processes of a run are known to be here.

    Args:
      coordinator: ``HOST:PORT`` of process 0
      processes: how many there are
      process: which of them this one is
      timeout: seconds

    Raises:
      InputError: processes are missing, with their numbers; process 0 does not answer; two have one number; they do
        not agree on how many there are. What process 0 finds wrong, the others raise too.
    """
    deadline = time.monotonic() + timeout
    host, _, port = coordinator.rpartition(":")
    if process == 0:
        with _listen(coordinator, int(port), timeout, deadline) as server:
            _call(server, coordinator, processes, timeout, deadline)
        return
    trouble = None
    while time.monotonic() < deadline:
        try:
            answer = _answer((host.strip("[]"), int(port)), f"jaxpaint {process} of {processes}", deadline)
        except OSError as error:  # not there yet, or gone: a run that is ending, a process 0 that was restarted
            trouble = error
            time.sleep(0.2)
            continue
        if answer != GO:
            raise InputError(answer)
        return
    raise InputError(
        f"process {process} of {processes} heard nothing from process 0 at {coordinator} within {timeout:g} s "
        f"({trouble}): look at the output of process 0, whether it runs at this address and whether this machine may "
        "connect to the port; or raise hosts.timeout"
    )


def _call(server: socket.socket, coordinator: str, processes: int, timeout: float, deadline: float) -> None:
    """Process 0's part: waits for all others, and tells them how it went."""
    here: dict[int, socket.socket] = {}
    problem = ""
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        while len(here) < processes - 1 and not problem:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                problem = _missing(here, coordinator, processes, timeout)
            # Who has gone comes before who is new: it may be the same process, started again.
            for key, _ in sorted(ready, key=lambda one: one[0].fileobj is server):
                if key.fileobj is not server:
                    selector.unregister(key.fileobj)
                    here.pop(key.data).close()
                    continue
                connection, _ = server.accept()
                number, total = _introduction(connection)
                if number is None:  # none of ours: a scan, or a run that is ending
                    connection.close()
                elif total != processes or not 0 < number < processes:
                    problem = f"a process says that it is {number} of {total}, but process 0 expects {processes}"
                    _tell(connection, problem)
                elif number in here:
                    problem = f"two processes say that they are number {number} of {processes} at {coordinator}"
                    _tell(connection, problem)
                else:
                    here[number] = connection
                    selector.register(connection, selectors.EVENT_READ, number)
    for connection in here.values():
        _tell(connection, problem or GO)
    if problem:
        raise InputError(problem)


def _answer(address: tuple[str, int], introduction: str, deadline: float) -> str:
    """Another process' part: says who it is, and waits for what process 0 says."""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(f"{introduction}\n".encode())
        # A little longer than process 0 waits: it is the one who can say what is missing.
        connection.settimeout(max(0.0, deadline - time.monotonic()) + PATIENCE)
        line = _line(connection)
        if not line:
            raise ConnectionError("process 0 hung up")
        return line


def _introduction(connection: socket.socket) -> tuple[int | None, int]:
    """(process, processes) as a connection gives them; (None, 0) if it speaks of anything else."""
    connection.settimeout(PATIENCE)
    try:
        words = _line(connection).split()
    except OSError:
        return None, 0
    if len(words) == 4 and words[0] == "jaxpaint" and words[1].isdecimal() and words[3].isdecimal():
        return int(words[1]), int(words[3])
    return None, 0


def _tell(connection: socket.socket, text: str) -> None:
    """Says a line and hangs up; who has gone in the meantime does not hear it."""
    with connection:
        try:
            connection.sendall(f"{text}\n".encode())
        except OSError:
            return


def _line(connection: socket.socket) -> str:
    """The first line that comes, without its end; "" if there is none."""
    text = b""
    while b"\n" not in text and len(text) < 4096:
        part = connection.recv(1024)
        if not part:
            return ""
        text += part
    return text.partition(b"\n")[0].decode(errors="replace")


def _missing(here: dict[int, socket.socket], coordinator: str, processes: int, timeout: float) -> str:
    missing = sorted(set(range(1, processes)) - set(here))
    return (
        f"{len(here) + 1} of {processes} processes came to {coordinator} within {timeout:g} s; missing: "
        f"{', '.join(map(str, missing))}. Look at their output; start all processes at about the same time, or raise "
        "hosts.timeout"
    )


def _listen(coordinator: str, port: int, timeout: float, deadline: float) -> socket.socket:
    """A socket at the port, on all addresses; waits while a run that is ending still has it."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    while True:
        try:
            return socket.create_server(("", port), family=family, backlog=128, dualstack_ipv6=both)
        except OSError as error:
            if time.monotonic() > deadline:
                raise InputError(
                    f"process 0 could not listen at port {port} of {coordinator} for {timeout:g} s ({error}): end the "
                    "program that has it, or choose another port"
                ) from error
            time.sleep(0.2)
