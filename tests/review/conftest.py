"""A site with a database, into which a test records outcomes, and the commands that read it."""

import csv
import io
import json
from contextlib import contextmanager

import pytest

from hipedge.cli import main
from hipedge.config import Settings
from hipedge.model.card import card_id, card_json
from hipedge.rules.site_rule import site_rule
from hipedge.store.store import Store


@pytest.fixture
def db(tmp_path, monkeypatch):
    """The path of the database in the empty working folder of a site."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("HIPEDGE_DB", "HIPEDGE_MODEL", "HIPEDGE_OPERATING_POINT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hipedge.db"


@pytest.fixture
def record(db, reference_model):
    """Record outcomes as one run, with the reference model's card or another one."""

    def record(*outcomes, card=reference_model.card, channels=()):
        with opened(db, card) as (store, run, rule):
            return store.record(run, outcomes, rule, channels)

    return record


@contextmanager
def opened(db, card):
    """Yield the store, a run of the card's model, and the rule of its card."""
    with Store(db) as store:
        run = store.start_run(
            model_id=card_id(card),
            model_name=card.name,
            model_status=card.status.value,
            card=card_json(card).decode(),
            backend="onnxruntime=1.0 provider=CPUExecutionProvider",
            backend_reason="asked for",
            versions={},
        )
        yield store, run, site_rule(card, Settings())


@pytest.fixture
def run(db, capsys):
    """Run a command at the site; return its exit code, standard output and standard error."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def flagged(run):
    """Return the lists of `hipedge flagged --json`."""

    def flagged(*arguments):
        code, out, _ = run("flagged", "--json", *arguments)
        assert code == 0
        return json.loads(out)

    return flagged


@pytest.fixture
def flagged_csv(run):
    """Return the rows of `hipedge flagged --csv`."""

    def flagged_csv(*arguments):
        code, out, _ = run("flagged", "--csv", *arguments)
        assert code == 0
        return list(csv.DictReader(io.StringIO(out)))

    return flagged_csv
