"""A SLURM cluster of this one machine, under a folder of its own, for as long as a test needs it.

No accounting, no cgroups, nothing outside the folder; works for any user.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
"""Daemons are often not on a user's PATH."""

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# a job that is queued again starts when its credential has expired; 5 s is the least that SLURM takes
AuthInfo=socket={root}/munge.sock,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
JobRequeue=1
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs that a cluster needs and this machine lacks."""
    return [name for name in PROGRAMS if not shutil.which(name, path=PLACES)]


@contextmanager
def cluster(root: Path) -> Iterator[Path]:
    """Start the daemons and wait until jobs can be submitted; gives the configuration for $SLURM_CONF."""
    config = _configure(root)
    key, sock = root / "munge.key", root / "munge.sock"
    munge = [
        "munged",
        "--foreground",
        "--force",
        f"--key-file={key}",
        f"--socket={sock}",
        f"--pid-file={root / 'munged.pid'}",
    ]
    munge += [f"--log-file={root / 'munged.log'}", f"--seed-file={root / 'munged.seed'}"]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        daemons.append(_start(munge, root))
        _wait(sock.exists, root)
        daemons.append(_start(["slurmctld", "-D", "-i", "-f", str(config)], root))
        daemons.append(_start(["slurmd", "-D", "-f", str(config)], root))
        _wait(lambda: _ask(config, "sinfo", "--noheader", "--format=%T") == "idle", root)
        yield config
    finally:
        if len(daemons) > 1:
            _ask(config, "scancel", f"--user={os.getuid()}")
            _wait(lambda: not _ask(config, "squeue", "--noheader"), root)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _configure(root: Path) -> Path:
    """munge insists on who may read its key; that nobody else reaches its socket, it is told to bear (--force)."""
    for name in ("state", "spool"):
        (root / name).mkdir(mode=0o755)
    key = root / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    host = socket.gethostname().partition(".")[0]
    controller, daemon = _free_ports(2)
    config = root / "slurm.conf"
    config.write_text(CONFIG.format(host=host, controller=controller, daemon=daemon, user=user, root=root))
    return config


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _start(command: list[str], root: Path) -> subprocess.Popen[bytes]:
    program = shutil.which(command[0], path=PLACES)
    assert program
    with (root / f"{command[0]}.out").open("wb") as out:
        return subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _ask(config: Path, *command: str) -> str | None:
    """What a client of SLURM prints; None where it fails."""
    shown = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"SLURM_CONF": str(config)}, check=False
    )
    return None if shown.returncode else shown.stdout.strip()


def _wait(condition, root: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            logs = [path.read_text(errors="replace")[-2000:] for path in [*root.glob("*.log"), *root.glob("*.out")]]
            raise RuntimeError("the cluster did not come up or go down in time:\n" + "\n".join(logs))
        time.sleep(0.2)
