"""From a URL to an Optuna storage that is fit for many processes."""

import contextlib
import logging
import os
import random
import sqlite3
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import InMemoryStorage, RDBStorage, _CachedStorage
from sqlalchemy.engine import URL, make_url

log = logging.getLogger("bayesopt")

Storage = InMemoryStorage | _CachedStorage

#: The open SQLite files, with the process that opened them.
_open_files: weakref.WeakKeyDictionary[sqlalchemy.Engine, int] = weakref.WeakKeyDictionary()

#: Seconds that a process waits for SQLite while others write.
SQLITE_PATIENCE = 120

#: How often to try again when several processes create the tables of one new file at once, or when a server
#: has no connection left.
_ATTEMPTS = 12

#: First key of our advisory locks on PostgreSQL, as opposed to those of other programs; the second is that of
#: the study, or 0.
ADVISORY_LOCK = 0x62617965

_EXAMPLES = "'sqlite:///tuning.db' for one machine, 'postgresql://user:password@host/database' for many"


def open_storage(storage: object, heartbeat: int, *, must_exist: bool = False) -> Storage:
    """The storage that a URL names, or the one given, with a cache where it is a database.

    A SQLite database is switched to write-ahead logging, so that readers and the writer do not wait for each
    other.

    Args:
        storage: a URL; None for the memory of this process; or an Optuna storage: `RDBStorage` on SQLite or
            PostgreSQL, or `InMemoryStorage`.
        heartbeat: seconds between two signs of life of a process; after four without one it is dead.
        must_exist: whether to refuse to create a SQLite file.

    Raises:
        ValueError, TypeError: not a storage that can be shared safely; nothing has been created then.
        ConnectionError: the database cannot be reached or is not one.
        ImportError: the driver of the database is not installed.
    """
    if storage is None:
        return InMemoryStorage()
    if isinstance(storage, str):
        url = checked_url(storage, must_exist)
        return _CachedStorage(_connected(url, heartbeat))
    if isinstance(storage, RDBStorage):
        storage = _CachedStorage(storage)
    if isinstance(storage, _CachedStorage):
        _check_dialect(storage._backend.engine.url)
        if storage.get_heartbeat_interval() is None:
            log.warning("the storage has no heartbeat_interval: trials of dead workers may never be noticed")
        return storage
    if isinstance(storage, InMemoryStorage):
        return storage
    raise TypeError(
        f"storage must be a URL, an optuna RDBStorage or InMemoryStorage, or None, got {storage!r}: journals "
        f"and proxies have no lock that would keep processes from asking at once; use {_EXAMPLES}"
    )


def check_not_forked() -> None:
    """Refuse to open an SQLite file in a fork of a process that had one open.

    SQLite keeps a table of the locks that its process holds; a forked child inherits the table, but not the
    locks, and would not notice when others replace the file under it.

    Raises:
        RuntimeError: this process is a fork of one with an open SQLite file.
    """
    if any(process != os.getpid() for process in _open_files.values()):
        raise RuntimeError(
            "this process was forked from one that had opened an SQLite study, which SQLite does not "
            "survive: use workers=, or start it afresh, as ProcessPoolExecutor(mp_context="
            "multiprocessing.get_context('spawn')) does"
        )


def checked_url(text: str, must_exist: bool = False) -> URL:
    """A URL that can work, with our driver where none is named.

    Raises:
        ValueError: it cannot; the message says why and shows one that does.

    >>> checked_url("tuning.db")
    Traceback (most recent call last):
    ValueError: 'tuning.db' is not a storage URL; for a SQLite file write 'sqlite:///tuning.db'
    """
    try:
        url = make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        hint = f"for a SQLite file write 'sqlite:///{text}'" if _is_filename(text) else f"use {_EXAMPLES}"
        raise ValueError(f"{text!r} is not a storage URL; {hint}") from None
    shown = url.render_as_string(hide_password=True)
    if any(ord(character) < 32 for character in text):
        raise ValueError(f"storage URL {shown!r} holds control characters; remove them")
    if "{" in text or "}" in text:
        raise ValueError(f"storage URL {shown!r} holds braces; write %7B and %7D for them")
    _check_dialect(url)
    try:
        url.get_dialect()
    except sqlalchemy.exc.ArgumentError:
        raise ValueError(
            f"storage URL {shown!r} asks for a driver that is not known; use {_EXAMPLES}"
        ) from None
    if url.get_backend_name() == "sqlite":
        _check_file(url, must_exist)
    elif not url.database:
        raise ValueError(f"storage URL {shown!r} names no database; use {_EXAMPLES}")
    elif url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return url


def _is_filename(text: str) -> bool:
    return bool(text.strip()) and ":" not in text and text.isprintable()


def _check_dialect(url: URL) -> None:
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(
            f"studies can be stored in SQLite and PostgreSQL, got {url.drivername!r}; {_EXAMPLES}"
        )


def _check_file(url: URL, must_exist: bool) -> None:
    name = url.database or ""
    if name in ("", ":memory:"):
        raise ValueError("an SQLite database in memory cannot be shared; use storage=None, or a file")
    if name.startswith("file:"):
        raise ValueError(f"SQLite's own file: URLs are not supported, got {name!r}; use 'sqlite:///name.db'")
    path = Path(name)
    try:
        if path.is_dir():
            raise ValueError(
                f"{name!r} is a folder; name a file in it, such as 'sqlite:///{path / 'tuning.db'}'"
            )
        if not path.parent.is_dir():
            raise ValueError(
                f"there is no folder {str(path.parent)!r} for the SQLite file {path.name!r}; create it"
            )
        exists = path.exists()
    except OSError as error:
        raise ValueError(f"{name!r} cannot be the name of a file: {error.strerror}") from None
    if must_exist and not exists:
        raise ValueError(
            f"there is no SQLite file {name!r}, so no study to go on with; pass a space to begin one"
        )
    if exists and path.stat().st_size and not _is_sqlite(path):
        raise ValueError(f"{name!r} is not an SQLite database; name another file")


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _connected(url: URL, heartbeat: int) -> RDBStorage:
    """Optuna's storage, its tables created if need be."""
    shown = url.render_as_string(hide_password=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _create(url, heartbeat)
        except ImportError as error:
            raise ImportError(
                f"the driver {url.drivername!r} is not installed: pip install 'bayesopt-torch[postgresql]'"
            ) from error
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            # Others may be creating the same tables: the second to create one fails, and finds it next time.
            if attempt == _ATTEMPTS or _is_hopeless(error):
                raise ConnectionError(f"the storage {shown!r} cannot be used: {_reason(error)}") from error
            time.sleep(0.2 * attempt * random.random())
    raise AssertionError  # the loop returns or raises


def _create(url: URL, heartbeat: int) -> RDBStorage:
    options: dict[str, Any] = {"pool_size": 2, "max_overflow": 20, "pool_pre_ping": True}
    if url.get_backend_name() == "sqlite":
        check_not_forked()
        options = {"connect_args": {"timeout": SQLITE_PATIENCE}}
        _use_write_ahead_log(url)
    with _alone(url):
        storage = RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=options)
    # As arguments they would be experimental, and say so each time.
    storage.heartbeat_interval, storage.grace_period = heartbeat, 4 * heartbeat
    if url.get_backend_name() == "sqlite":
        _open_files[storage.engine] = os.getpid()
    return storage


def close_storage(storage: Storage) -> None:
    """Close the connections of a storage that `open_storage` has made from a URL."""
    if isinstance(storage, _CachedStorage):
        storage.remove_session()
        storage._backend.engine.dispose()
        _open_files.pop(storage._backend.engine, None)


@contextlib.contextmanager
def _alone(url: URL) -> Iterator[None]:
    """One process at a time on PostgreSQL, as long as tables may have to be created."""
    if url.get_backend_name() == "sqlite":
        yield
        return
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:  # which takes the lock along when it is closed
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(ADVISORY_LOCK, 0)))
        yield


def _use_write_ahead_log(url: URL) -> None:
    """Lasting, for whoever opens the file; a file system that cannot do it keeps SQLite's own journal."""
    assert url.database is not None
    with contextlib.closing(sqlite3.connect(url.database, timeout=SQLITE_PATIENCE)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.DatabaseError as error:
            raise sqlalchemy.exc.DatabaseError("PRAGMA journal_mode", None, error) from error


def _is_hopeless(error: Exception) -> bool:
    """Whether trying again cannot help: nobody else's work, but no server, password, permission or disk."""
    text = str(error).lower()
    clues = (
        "too many clients",
        "connection slots",
        "starting up",
        "already exists",
        "unique",
        "duplicate",
        "locked",
        "deadlock",
        "concurrently",
        "exception is raised",
    )
    return not any(clue in text for clue in clues)


def _reason(error: Exception) -> str:
    """The first line of what the driver says."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return str(cause).strip().partition("\n")[0]
