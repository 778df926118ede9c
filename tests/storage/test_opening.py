"""Storage URLs: those that work, and thousands that do not and leave nothing behind."""

import os
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bayesopt import Float, Study
from bayesopt.storage.opening import checked_url, close_storage, open_storage

SPACE = {"x": Float(0.0, 1.0)}


def refused(storage):
    """What is said about a storage that cannot be used."""
    with pytest.raises((ValueError, TypeError, ConnectionError, ImportError)) as caught:
        Study(SPACE, storage=storage, name="a")
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "not a storage URL"),
        ("tuning.db", "write 'sqlite:///tuning.db'"),
        ("postgres://user@host/tuning", "SQLite and PostgreSQL, got 'postgres'"),
        ("mysql://user@host/tuning", "SQLite and PostgreSQL, got 'mysql'"),
        ("redis://localhost", "SQLite and PostgreSQL"),
        ("sqlite://", "storage=None"),
        ("sqlite:///:memory:", "storage=None"),
        ("sqlite:///file:x?mode=memory", "file: URLs"),
        ("sqlite:///file:study.db", "file: URLs"),
        ("sqlite:///there/is/no/folder.db", "no folder 'there/is/no'"),
        ("sqlite:///.", "is a folder"),
        ("sqlite:///{SCHEMA}.db", "braces"),
        ("sqlite:///a\nb.db", "control characters"),
        ("sqlite:///" + 300 * "x", "cannot be the name of a file"),
        ("sqlite+nonsense:///a.db", "driver"),
        ("postgresql://user@host", "names no database"),
        ("postgresql+nonsense://user@host/tuning", "driver"),
        (3, "must be a URL"),
        (Path("study.db"), "must be a URL"),
    ],
)
def test_what_cannot_be_a_storage_says_so_and_creates_nothing(url, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(url)
    assert not list(tmp_path.iterdir())


def test_what_is_no_database_stays_as_it_is(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("some notes")
    assert "not an SQLite database" in refused(f"sqlite:///{text}")
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"SQLite format 3\0" + bytes(range(200)))
    before = broken.read_bytes()
    assert "cannot be used" in refused(f"sqlite:///{broken}")
    assert text.read_text() == "some notes" and broken.read_bytes() == before


def test_a_server_that_does_not_answer_is_a_connection_error_without_the_password():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        says = refused(f"postgresql://me:secret@127.0.0.1:{port}/tuning")
    assert "cannot be used" in says and "secret" not in says and "***" in says


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)
SCHEMES = st.sampled_from(["sqlite", "postgresql", "postgresql+psycopg", "mysql", "", "sqlite+pysqlite"])
SEPARATORS = st.sampled_from([":", "://", ":///", "//", ":////", "/", ""])


@settings(max_examples=int(os.environ.get("BAYESOPT_EXAMPLES", "300")))
@given(scheme=SCHEMES | TEXT, separator=SEPARATORS, rest=TEXT)
@example(scheme="sqlite", separator=":///", rest="a\0b")
@example(scheme="sqlite", separator=":///", rest="%zz")
@example(scheme="postgresql", separator="://", rest="u:p@h:notaport/db")
@example(scheme="sqlite", separator="://", rest="/x?timeout=y")
def test_a_url_is_accepted_or_refused_with_a_reason(scheme, separator, rest):
    try:
        url = checked_url(f"{scheme}{separator}{rest}", must_exist=True)
    except ValueError as error:
        reason = str(error)
    else:
        reason = "it can work" if url.get_backend_name() == "postgresql" and url.database else ""
    assert len(reason) > 10


@settings(max_examples=int(os.environ.get("BAYESOPT_EXAMPLES", "100")))
@given(name=st.text(max_size=20), value=st.text() | st.binary() | st.lists(st.integers()))
def test_malformed_names_and_results_leave_a_study_as_it_was(malformed_study, name, value):
    study, before = malformed_study
    assume(name not in ("there", "x"))
    with pytest.raises((ValueError, TypeError)):
        study.tell(0, value)
    with pytest.raises((ValueError, TypeError)):
        study.tell({name: 0.5}, 1.0)
    with pytest.raises((ValueError, TypeError)):
        study.tell(name, 1.0)
    with pytest.raises((ValueError, TypeError)):
        Study(storage=study._storage, name=name)
    assert [repr(t) for t in study.optuna.trials] == before


@pytest.fixture(scope="module")
def malformed_study(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('malformed') / 'study.db'}"
    with Study(SPACE, storage=url, name="there") as study:
        study.ask()
        yield study, [repr(t) for t in study.optuna.trials]


def test_sqlite_logs_ahead_and_heartbeats_are_on(tmp_path):
    path = tmp_path / "study.db"
    storage = open_storage(f"sqlite:///{path}", 7)
    assert storage.get_heartbeat_interval() == 7
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    close_storage(storage)
    assert [each.name for each in tmp_path.iterdir()] == ["study.db"]


def test_many_may_create_the_same_database_at_once(tmp_path):
    def begin(_):
        with Study(SPACE, storage=f"sqlite:///{tmp_path / 'study.db'}", name="a") as study:
            return study.ask().number

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(begin, range(6))) == list(range(6))


def test_our_driver_is_the_default_and_optunas_storages_are_cached(tmp_path):
    assert checked_url("postgresql://me@host/tuning").drivername == "postgresql+psycopg"
    assert isinstance(open_storage(None, 5), optuna.storages.InMemoryStorage)
