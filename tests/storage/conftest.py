"""Storages to test on: memory, SQLite, and PostgreSQL where there is one."""

import os
import uuid

import optuna
import pytest

POSTGRESQL = os.environ.get("BAYESOPT_TEST_POSTGRESQL")

needs_postgresql = pytest.mark.skipif(
    not POSTGRESQL, reason="BAYESOPT_TEST_POSTGRESQL names no database; run through .ci/postgresql"
)
DATABASES = ["sqlite", pytest.param("postgresql", marks=needs_postgresql)]


@pytest.fixture(scope="session", autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    """A database for one test."""
    return f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else POSTGRESQL


@pytest.fixture
def name():
    """Of a study that nobody has had."""
    return uuid.uuid4().hex


@pytest.fixture
def optunas():
    """Opens a database as Optuna does, and closes it in the end, which Optuna does not."""
    opened = []

    def open_storage(url):
        opened.append(optuna.storages.RDBStorage(url))
        return opened[-1]

    yield open_storage
    for storage in opened:
        storage.remove_session()
        storage.engine.dispose()
