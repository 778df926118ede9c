"""A study in SQLite or PostgreSQL, in Optuna's tables.

Optuna creates a trial in several transactions, and a worker that is killed between two of them leaves a
trial without parameters, or one that nobody watches. Here everything that an ask writes is one transaction.

PostgreSQL serialises the asks by an advisory lock of that very transaction: the server gives it up the moment
its owner is gone, and nothing can be written without it. SQLite has one lock for all writers, which must not
be held while a model is fitted, or nobody could report a result meanwhile. A lease does there, a row that is
taken and given back by compare-and-set; giving it back is part of the transaction that it protects.
"""

import json
import random
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bayesopt.space import Choice, Space
from bayesopt.storage import owners
from bayesopt.storage.distributions import distributions, internal
from bayesopt.storage.ledger import (
    ABANDONED,
    ERROR,
    Entry,
    Ledger,
    MemoryLedger,
    Place,
    TurnLostError,
    Verdict,
    Write,
    Written,
)
from bayesopt.storage.opening import ADVISORY_LOCK, Storage, check_not_forked

_LEASE = "bayesopt:turn"
_FREE = json.dumps(None)

#: Seconds after which a turn on SQLite is over even if its owner cannot be seen to be dead.
LEASE_SECONDS = 120.0

_POLL = (0.001, 0.01)  # seconds between two looks at a lease, at least and at most

_RUNNING, _WAITING, _FAIL = TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL


Work = Callable[[Session], Written]
Commit = Callable[[Work], Written]


def ledger_of(storage: Storage, study_id: int, space: Space) -> Ledger:
    """That of a study, in memory or in a database."""
    if isinstance(storage, InMemoryStorage):
        return MemoryLedger(storage, study_id, space)
    return DatabaseLedger(storage._backend, study_id, space)


class DatabaseLedger(Ledger):
    """A study in Optuna's tables."""

    def __init__(self, storage: RDBStorage, study_id: int, space: Space) -> None:
        self._engine: Engine = storage.engine
        self._study_id = study_id
        self._space = space
        self._distributions = {name: distribution_to_json(d) for name, d in distributions(space).items()}
        trial = models.TrialModel
        self._places = (
            select(trial.number, trial.trial_id, trial.state)
            .where(trial.study_id == study_id)
            .where(or_(trial.number >= bindparam("beyond"), trial.state.in_([_RUNNING, _WAITING])))
        )
        self._count = select(func.count(trial.trial_id)).where(trial.study_id == study_id)

    @contextmanager
    def turn(self) -> Iterator[Write]:
        with turn(self._engine, self._study_id) as commit:
            yield lambda entries, verdicts: commit(lambda session: self._write(session, entries, verdicts))

    def places(self, beyond: int) -> list[Place]:
        with self._engine.connect() as connection:
            return [Place(*row) for row in connection.execute(self._places, {"beyond": beyond})]

    def finish(
        self, trial_id: int, state: TrialState, value: float | None, remarks: Mapping[str, Any]
    ) -> bool:
        trial, outcome = models.TrialModel, models.TrialValueModel
        running = update(trial).where(trial.trial_id == trial_id, trial.state == _RUNNING)
        with Session(self._engine) as session, session.begin():
            ended = session.execute(
                running.values(state=state, _datetime_complete_utc=_now()),
                execution_options={"synchronize_session": False},
            )
            if ended.rowcount != 1:  # type: ignore[attr-defined]
                return False
            if value is not None:
                kind = outcome.TrialValueType.FINITE
                row = {"trial_id": trial_id, "objective": 0, "value": value, "value_type": kind}
                session.execute(insert(outcome), [row])
            if remarks:
                _set_attributes(session, models.TrialUserAttributeModel, trial_id, remarks)
        return True

    # ------------------------------------------------------------------------------------------- writing

    def _write(self, session: Session, entries: Sequence[Entry], verdicts: Sequence[Verdict]) -> Written:
        # Whoever creates a trial holds the row of its study: the number of a trial is how many there are.
        if self._engine.dialect.name != "sqlite":  # where we are the only writer by now
            study = models.StudyModel.study_id
            session.execute(select(study).where(study == self._study_id).with_for_update())
        stand = [self._fail(session, each.trial_id, each.error) for each in verdicts]
        return Written([self._enter(session, entry) for entry in entries], stand)

    def _fail(self, session: Session, trial_id: int, error: str | None) -> bool:
        found = self._move(session, trial_id, (_RUNNING, _WAITING), _FAIL)
        if found is None:
            return False
        if error is None:
            _set_attributes(session, models.TrialSystemAttributeModel, trial_id, {ABANDONED: True})
        else:
            _set_attributes(session, models.TrialUserAttributeModel, trial_id, {ERROR: error})
        return True

    def _move(
        self, session: Session, trial_id: int, before: Sequence[TrialState], after: TrialState
    ) -> models.TrialModel | None:
        """The trial in its new state; None if it is in none of the old ones."""
        trial = models.TrialModel
        query = select(trial).where(trial.trial_id == trial_id, trial.state.in_(before)).with_for_update()
        found = session.execute(query.execution_options(populate_existing=True)).scalar_one_or_none()
        if found is not None:
            found.state = after
            if after.is_finished():
                found.datetime_complete = datetime.now()
            else:
                found.datetime_start = datetime.now()
        return found

    def _enter(self, session: Session, entry: Entry) -> Place | None:
        if entry.instead_of is not None and not self._fail(session, entry.instead_of, None):
            return None
        said: set[Any] = set()
        if entry.waiting is None:
            number, trial_id = self._created(session)
        else:
            trial: Any = self._move(session, entry.waiting, [_WAITING], _RUNNING)
            if trial is None:
                return None
            number, trial_id, said = trial.number, trial.trial_id, {each.param_name for each in trial.params}
        rows = [
            self._param(trial_id, name, value) for name, value in entry.config.items() if name not in said
        ]
        if rows:
            session.execute(insert(models.TrialParamModel), rows)
        new = entry.waiting is None
        _set_attributes(session, models.TrialSystemAttributeModel, trial_id, entry.attributes, new)
        if entry.watched:
            session.execute(insert(models.TrialHeartbeatModel), [{"trial_id": trial_id}])
        return Place(number, trial_id, _RUNNING)

    def _created(self, session: Session) -> tuple[int, int]:
        """Number and key of a new running trial."""
        number = session.execute(self._count).scalar_one()
        row = {"study_id": self._study_id, "number": number, "state": _RUNNING, "_datetime_start_utc": _now()}
        key = insert(models.TrialModel).returning(models.TrialModel.trial_id)
        return number, session.execute(key, row).scalar_one()

    def _param(self, trial_id: int, name: str, value: Choice) -> dict[str, Any]:
        return {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": internal(self._space[name], value),
            "distribution_json": self._distributions[name],
        }


def _now() -> datetime:
    """As Optuna's tables have it: UTC, and saying nothing of it."""
    return datetime.now(UTC).replace(tzinfo=None)


def _set_attributes(
    session: Session, model: Any, trial_id: int, attributes: Mapping[str, Any], new: bool = False
) -> None:
    if attributes:
        keys = list(attributes)
        if not new:
            session.execute(delete(model).where(model.trial_id == trial_id, model.key.in_(keys)))
        rows = [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for key, value in attributes.items()
        ]
        session.execute(insert(model), rows)


def turn(engine: Engine, study_id: int) -> AbstractContextManager[Commit]:
    """Wait for the right to ask; it ends with its one commit, or with the block."""
    return (_sqlite_turn if engine.dialect.name == "sqlite" else _postgresql_turn)(engine, study_id)


@contextmanager
def _postgresql_turn(engine: Engine, study_id: int) -> Iterator[Commit]:
    with Session(engine) as session:  # the lock lasts as long as its transaction
        session.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK, study_id)))

        def commit(work: Work) -> Written:
            written = work(session)
            session.commit()
            return written

        yield commit


@contextmanager
def _sqlite_turn(engine: Engine, study_id: int) -> Iterator[Commit]:
    check_not_forked()
    with engine.connect() as connection, _without_waiting_for_the_disk(connection):
        lease = _taken(connection, study_id)
        given_back = False

        def commit(work: Work) -> Written:
            """Giving the lease back is part of the transaction that it protects."""
            nonlocal given_back
            with Session(connection) as session:
                if not _exchange(session.connection(), study_id, lease, _FREE):
                    raise TurnLostError(
                        "a turn on this study has lasted so long that another worker took over"
                    )
                written = work(session)
                session.commit()
            given_back = True
            return written

        try:
            yield commit
        finally:
            if not given_back:
                connection.rollback()
                _exchange(connection, study_id, lease, _FREE)
                connection.commit()


def _taken(connection: Connection, study_id: int) -> str:
    """Wait for the lease; what proves it."""
    while True:
        held = _lease(connection, study_id)
        if _is_over(held):
            token = {
                "owner": owners.myself(),
                "until": time.time() + LEASE_SECONDS,
                "token": uuid.uuid4().hex,
            }
            mine = json.dumps(token)
            taken = _exchange(connection, study_id, held, mine)
            connection.commit()
            if taken:
                return mine
        connection.rollback()
        time.sleep(random.uniform(*_POLL))


@contextmanager
def _without_waiting_for_the_disk(connection: Connection) -> Iterator[None]:
    """What is written survives the death of any process at once, a power failure after the next result.

    A power failure ends the workers too: that they had begun is not worth the wait, a result is. Only with a
    write-ahead log, which stays sound either way.
    """
    usual, ahead = _durability(connection)
    if ahead:
        connection.exec_driver_sql("PRAGMA synchronous=NORMAL")
    try:
        yield
    finally:
        connection.rollback()
        connection.exec_driver_sql(f"PRAGMA synchronous={usual}")


#: What `_durability` has found out, by engine.
_durabilities: weakref.WeakKeyDictionary[Engine, tuple[int, bool]] = weakref.WeakKeyDictionary()


def _durability(connection: Connection) -> tuple[int, bool]:
    """How SQLite syncs to the disk by default, and whether it keeps a write-ahead log."""
    if connection.engine not in _durabilities:
        usual = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        ahead = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        _durabilities[connection.engine] = usual, ahead
    return _durabilities[connection.engine]


def _lease(connection: Connection, study_id: int) -> str | None:
    model = models.StudySystemAttributeModel
    query = select(model.value_json).where(model.study_id == study_id, model.key == _LEASE)
    return connection.execute(query).scalar_one_or_none()


def _is_over(lease: str | None) -> bool:
    held = None if lease is None else json.loads(lease)
    return held is None or held["until"] < time.time() or owners.is_dead(held["owner"])


def _exchange(connection: Connection, study_id: int, old: str | None, new: str) -> bool:
    """Compare and set: whether the lease was `old` and is `new` now."""
    model = models.StudySystemAttributeModel
    if old is None:
        try:
            connection.execute(insert(model).values(study_id=study_id, key=_LEASE, value_json=new))
        except IntegrityError:
            return False
        return True
    query = update(model).where(model.study_id == study_id, model.key == _LEASE, model.value_json == old)
    return connection.execute(query.values(value_json=new)).rowcount == 1
