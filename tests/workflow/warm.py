"""A process that has imported Snakemake, torch and the package of a checkout, and forks for every command it is given.

These imports take seconds, and a run of the workflow repeats them for itself and for each of its jobs. A fork shares
nothing with the forks before it, and runs what `python -m snakemake` or `python -m partialres` would.

    the server:  PYTHONPATH=CHECKOUT python -P warm.py SOCKET
    a command:   python -I -S warm.py SOCKET MODULE ARGUMENTS ...     in any folder, environment and with any files
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import socket
import sys
import traceback

IMPORTED = (  # what plans, starts of a run and most jobs import
    "snakemake.cli", "snakemake.report", "docutils.core", "jsonschema", "pandas", "pulp", "smart_open", "torch",
    "partialres.code_digest", "partialres.report.curves", "partialres.report.gallery", "partialres.steps.backbone",
    "partialres.steps.evaluate", "partialres.steps.predict", "partialres.steps.pseudo", "partialres.steps.rec",
    "partialres.steps.res",
)  # fmt: skip


def serve(path: str) -> None:
    """Fork for every connection to the socket, until standard input ends."""
    for name in IMPORTED:
        importlib.import_module(name)
    sys.modules["partialres.code_digest"].digest("train-res")  # which forks then need not compute
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                answer(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):  # none is left
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def answer(connection: socket.socket) -> None:
    """Run the command that a connection asks for, send its exit status and end this process."""
    message, files, _, _ = socket.recv_fds(connection, 2**20, 3)
    for number, file in enumerate(files):
        os.dup2(file, number)
    command = json.loads(message)
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.argv = command["words"]
    status = 1
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(str(status).encode())
    os._exit(status)


def ask(path: str, words: list[str], folder: str, environment: dict[str, str], files: list[int]) -> int:
    """Have a server run a command, and return its exit status. files: its standard input, output and error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(path)
        message = {"words": words, "folder": folder, "environment": environment}
        socket.send_fds(connection, [json.dumps(message).encode()], files)
        return int(connection.recv(16) or 137)  # nothing comes from a process that was killed


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2:], os.getcwd(), dict(os.environ), [0, 1, 2]))
