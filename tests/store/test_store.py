import multiprocessing
import os
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from hipedge.errors import Code, State, StoreError, StoreUnavailable
from hipedge.rules import decide as decide_module
from hipedge.store.outbox import Outbox
from hipedge.store.queue import Queue
from hipedge.store.schema import migrations
from hipedge.store.store import Store
from hipedge.types import (
    ABNORMAL,
    CATEGORIES,
    CODESTREAM_HASH,
    Category,
    Known,
    Laterality,
    Mark,
    Priority,
    Refusal,
    Side,
)
from tests.builders import RULE, content, film, scored_hip, screened, sha

RULES = {"model": RULE}
CHANNELS = ("spool", "webhook")
NOTHING = replace(RULE, thresholds=dict.fromkeys(ABNORMAL, 1.0))
URGENT, ROUTINE = Category.FEMORAL_NECK_FRACTURE, Category.OSTEOARTHRITIS


@pytest.fixture
def db(tmp_path):
    return tmp_path / "cases.db"


@pytest.fixture
def store(db):
    with Store(db) as opened:
        yield opened


def one_row(db, sql):
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute(sql).fetchone()


def start(store, model_id="model"):
    return store.start_run(
        model_id=model_id,
        model_name="test",
        model_status="untrained",
        card="{}",
        backend="fake",
        backend_reason="asked for",
        versions={"python": "3"},
    )


def test_a_screened_film_comes_back_as_it_went_in(store):
    went_in = film(uid="1.2.3", laterality=Laterality.BOTH, spacing_mm=(0.2, 0.2), age_years=71.0)
    hips = scored_hip(Category.OSTEOARTHRITIS), scored_hip(side=Side.UNKNOWN)
    outcome = screened(went_in, *hips, marks=[Mark.SIDE_UNCLEAR])
    store.record(start(store), [outcome], RULE)
    (case,) = store.all_cases(RULES)
    assert case.path == went_in.source
    assert (case.content_hash, case.state, case.code) == (
        went_in.content_hash,
        State.SCREENED,
        None,
    )
    assert (case.shape, case.age_years, case.marks) == ((2140, 1760), 71.0, (Mark.SIDE_UNCLEAR,))
    assert case.findings == outcome.findings
    for came_back, hip in zip(case.hips, hips, strict=True):
        assert came_back.hip == hip.hip
        assert len(came_back.scores) == len(hip.scores)
        np.testing.assert_array_equal(came_back.scores[0].logits, hip.scores[0].logits)
        np.testing.assert_array_equal(came_back.scores[0].maps, hip.scores[0].maps)


def test_screening_the_same_content_again_adds_nothing(store):
    for _ in range(2):
        store.record(start(store), [screened(film())], RULE)
    assert len(list(store.all_cases(RULES))) == 1


def test_another_model_gives_the_same_content_another_row_and_the_newest_is_shown(store):
    store.record(start(store, "model"), [screened(film())], RULE)
    hip = scored_hip(Category.FEMORAL_NECK_FRACTURE)
    store.record(start(store, "better"), [screened(film(), hip)], RULE)
    (case,) = store.all_cases({"model": RULE, "better": RULE})
    assert case.findings[0].category is Category.FEMORAL_NECK_FRACTURE


def test_the_same_bytes_under_another_name_are_one_case_found_under_both(store):
    run = start(store)
    store.record(run, [screened(film())], RULE)
    store.link(run, [Known(Path("/in/copy.dcm"), content("film"))])
    (by_name,) = store.find(RULES, "/in/film.dcm")
    (by_copy,) = store.find(RULES, "/in/copy.dcm")
    assert by_name.file_id == by_copy.file_id


def test_linking_to_a_content_that_has_no_row_is_an_error(store):
    with pytest.raises(StoreError, match="no row"):
        store.link(start(store), [Known(Path("/in/film.dcm"), content("film"))])


def test_the_same_image_under_other_bytes_is_a_duplicate_of_the_first(store):
    run = start(store)
    store.record(run, [screened(film("raw", uid="1.2.3"))], RULE)
    packed = film("packed", uid="1.2.3")
    first = store.same_pixels(run, packed)
    assert first is not None
    refusal = Refusal(
        packed.source, Code.SAME_PIXELS, content_hash=packed.content_hash, film=packed
    )
    store.record(run, [refusal], RULE)
    (case,) = store.find(RULES, packed.content_hash)
    assert case.state is State.DUPLICATE
    with closing(sqlite3.connect(store.path)) as connection:
        rows = connection.execute("select duplicate_of from files where duplicate_of > 0")
        assert rows.fetchall() == [(first,)]


def test_of_a_film_that_is_scored_twice_the_second_result_is_a_duplicate_of_the_first(store, db):
    films = [screened(film(name, uid="1.2.3"), scored_hip(URGENT)) for name in ("raw", "packed")]
    first, second = store.record(start(store), films, RULE, ["spool"])
    assert first is films[0]
    assert second.code is Code.SAME_PIXELS
    assert one_row(db, "select state, code, duplicate_of from files where id = 2") == (
        "duplicate", "same_pixels", 1,
    )  # fmt: skip
    assert one_row(db, "select count(*) from hips") == (1,)
    assert Outbox(store).waiting() == {"spool": 1}


def test_images_without_an_instance_uid_are_no_duplicates_of_each_other(store):
    run = start(store)
    store.record(run, [screened(film("one"))], RULE)
    assert store.same_pixels(run, film("two")) is None


def test_two_images_with_one_instance_uid_are_both_kept_and_both_marked(store):
    run = start(store)
    store.record(run, [screened(film("one", uid="1.2.3", pixels="a"))], RULE)
    store.record(run, [screened(film("two", uid="1.2.3", pixels="b"))], RULE)
    cases = list(store.worklist(RULES))
    assert [case.marks for case in cases] == [(Mark.CONFLICT,)] * 2


def coded_film(name, codestream, overview):
    """A film whose codestream was hashed, with the values of `overview` at a low resolution."""
    return replace(
        film(name, uid="1.2.3"),
        pixel_hash=CODESTREAM_HASH + sha(codestream),
        overview_hash=sha(overview),
    )


def test_a_film_sent_again_in_another_lossless_encoding_is_a_duplicate(store):
    run = start(store)
    plain = replace(film("one", uid="1.2.3", pixels="a"), overview_hash=sha("same"))
    store.record(run, [screened(plain)], RULE)
    (again,) = store.record(run, [screened(coded_film("two", "b", "same"))], RULE)
    assert again.code is Code.SAME_PIXELS
    (other_codec,) = store.record(run, [screened(coded_film("three", "c", "same"))], RULE)
    assert other_codec.code is Code.SAME_PIXELS
    assert [case.marks for case in store.all_cases(RULES)] == [(), (), ()]


def test_another_image_in_another_encoding_under_the_same_uid_is_a_conflict(store):
    run = start(store)
    plain = replace(film("one", uid="1.2.3", pixels="a"), overview_hash=sha("this"))
    store.record(run, [screened(plain), screened(coded_film("two", "b", "that"))], RULE)
    assert [case.marks for case in store.all_cases(RULES)] == [(Mark.CONFLICT,)] * 2


def test_two_hashes_of_all_values_decide_whatever_the_low_resolution(store):
    run = start(store)
    films = [
        replace(film(name, uid="1.2.3", pixels=name), overview_hash=sha("same"))
        for name in ("one", "two")
    ]
    store.record(run, [screened(each) for each in films], RULE)
    assert [case.marks for case in store.all_cases(RULES)] == [(Mark.CONFLICT,)] * 2


def test_a_refusal_keeps_its_stage_code_and_detail(store, db):
    refusal = Refusal(
        Path("/in/x.dcm"), Code.DECODE_FAILED, "Jpeg2kError", content_hash=content("x")
    )
    store.record(start(store), [refusal], RULE)
    row = one_row(db, "select state, stage, code, detail from files")
    assert row == ("quarantined", "read", "decode_failed", "Jpeg2kError")


def test_a_file_that_could_not_be_read_has_one_row_until_it_can_be(store):
    unread = Refusal(Path("/in/film.dcm"), Code.UNREADABLE)
    for _ in range(2):
        store.record(start(store), [unread], RULE)
    assert [case.code for case in store.all_cases(RULES)] == [Code.UNREADABLE]
    store.claim([film().source])
    store.record(start(store), [screened(film())], RULE)
    assert [case.state for case in store.all_cases(RULES)] == [State.SCREENED]


def test_attempts_are_counted_by_what_was_claimed(store, db):
    run = start(store)
    store.claim([film().source])
    store.claim([film().source])
    store.record(run, [screened(film())], RULE)
    assert one_row(db, "select attempts from files") == (2,)


def test_attempts_are_counted_from_one_for_new_content(store, db):
    path = Path("/in/film.dcm")
    attempts = []
    for signature in ("old", "old", "new", "new", "new"):
        store.claim([path], {path: signature})
        attempts += one_row(db, "select attempts from paths")
    assert attempts == [1, 2, 1, 2, 3]
    assert one_row(db, "select state, signature from paths") == ("claimed", "new")


def test_a_claim_is_committed_before_anything_else_happens(store, db):
    store.claim([Path("/in/film.dcm")])
    row = one_row(db, "select path, file_id, attempts from paths")
    assert row == ("/in/film.dcm", None, 1)


def test_new_thresholds_give_new_decisions_without_new_scores(store, db):
    run = start(store)
    store.record(run, [screened(film(), scored_hip(Category.OSTEOARTHRITIS, sure=2.0))], RULE)
    strict = replace(RULE, thresholds=dict.fromkeys(RULE.thresholds, 0.99))
    assert store.apply_rule("model", strict) == 1
    assert store.apply_rule("model", strict) == 0
    (before,) = store.all_cases(RULES)
    (after,) = store.all_cases({"model": strict})
    assert before.findings[0].flagged_for == (Category.OSTEOARTHRITIS,)
    assert after.findings[0].flagged_for == ()
    counts = "select (select count(*) from hips), (select count(*) from decisions)"
    assert one_row(db, counts) == (1, 2)


def test_new_code_of_the_rule_gives_new_decisions_from_the_kept_logits(store, db, monkeypatch):
    store.record(
        start(store), [screened(film(), scored_hip(Category.OSTEOARTHRITIS, sure=2.0))], RULE
    )
    flag_margins = decide_module.flag_margins
    monkeypatch.setattr(decide_module, "flag_margins", lambda *a, **k: flag_margins(*a, **k) - 1)
    monkeypatch.setattr(decide_module, "RULE_VERSION", decide_module.RULE_VERSION + 1)
    of_new_code = replace(RULE)
    assert of_new_code == RULE
    assert store.apply_rule("model", of_new_code) == 1
    (before,) = store.all_cases(RULES)
    (after,) = store.all_cases({"model": of_new_code})
    assert before.findings[0].flagged_for == (Category.OSTEOARTHRITIS,)
    assert after.findings[0].flagged_for == ()
    assert one_row(db, "select count(*) from hips") == (1,)


def under(**thresholds):
    """The rule with other thresholds for some categories."""
    return replace(
        RULE, thresholds=RULE.thresholds | {Category(k): v for k, v in thresholds.items()}
    )


def pending(store, channel="spool"):
    return Outbox(store).pending(channel, 99)


def deliver_all(store):
    messages = [message for channel in CHANNELS for message in pending(store, channel)]
    for message in messages:
        Outbox(store).mark_delivered(message)
    return len(messages)


def test_what_a_new_rule_flags_is_told_of_though_somebody_looked_first(store, db):
    store.record(
        start(store), [screened(film(), scored_hip(URGENT), rule=NOTHING)], NOTHING, CHANNELS
    )
    assert Outbox(store).waiting() == {}
    with Store(db) as reader:  # `hipedge flagged`, before the service reloads
        assert reader.apply_rule("model", RULE) == 1
    assert store.apply_rule("model", RULE, CHANNELS) == 0
    assert Outbox(store).waiting() == {"spool": 1, "webhook": 1}


class Overtaken(Store):
    """A store before each of whose transactions another process applies the same rule."""

    def transaction(self):
        with Store(self.path) as other:
            other.apply_rule("model", RULE)
        return super().transaction()


def test_two_may_apply_a_rule_at_once(store, db):
    store.record(start(store), [screened(film(), scored_hip(URGENT), rule=NOTHING)], NOTHING)
    with Overtaken(db) as slower:
        assert slower.apply_rule("model", RULE, CHANNELS) == 0
    assert one_row(db, "select count(*) from decisions") == (2,)
    assert Outbox(store).waiting() == {"spool": 1, "webhook": 1}


def test_another_threshold_tells_again_of_nothing_that_was_told(store):
    films = [screened(film(f"{n}", uid=f"1.{n}"), scored_hip(URGENT)) for n in range(5)]
    store.record(start(store), films, RULE, CHANNELS)
    assert deliver_all(store) == 10
    assert store.apply_rule("model", under(osteoarthritis=0.31), CHANNELS) == 5
    assert Outbox(store).waiting() == {}


def test_flags_that_go_and_come_back_are_told_once(store):
    store.record(start(store), [screened(film(), scored_hip(ROUTINE))], RULE, CHANNELS)
    deliver_all(store)
    for rule in (NOTHING, under(osteoarthritis=0.9)):
        store.apply_rule("model", rule, CHANNELS)
    assert Outbox(store).waiting() == {}


def both_kinds():
    """A hip that looks like arthritis and, half as likely, like a fracture."""
    hip = scored_hip(ROUTINE)
    hip.scores[0].logits[CATEGORIES.index(URGENT)] = 4.3
    return hip


def test_a_case_that_becomes_more_urgent_is_told_again_and_one_that_becomes_less_is_not(store):
    calm, alert = under(femoral_neck_fracture=0.9), RULE
    store.record(start(store), [screened(film(), both_kinds(), rule=calm)], calm, CHANNELS)
    (first,) = pending(store)
    assert deliver_all(store) == 2
    store.apply_rule("model", alert, CHANNELS)
    (second,) = pending(store)
    assert store.case(1, second.rule_id).findings[0].priority is Priority.URGENT
    assert second.key != first.key
    assert deliver_all(store) == 2
    store.apply_rule("model", under(femoral_neck_fracture=0.95), CHANNELS)
    assert Outbox(store).waiting() == {}


@pytest.mark.parametrize("order", [(URGENT, ROUTINE), (ROUTINE, URGENT)])
def test_a_film_with_two_flagged_hips_is_as_urgent_as_the_more_urgent_one(store, order):
    routine = screened(film("routine", uid="1.1"), scored_hip(ROUTINE))
    both = screened(film("both", uid="1.2"), *map(scored_hip, order))
    store.record(start(store), [routine, both], RULE, CHANNELS)
    assert [store.case(m.file_id, m.rule_id).path.stem for m in pending(store)] == [
        "both",
        "routine",
    ]
    deliver_all(store)
    # Of the same case, under another rule: its urgent hip was reported already.
    store.apply_rule("model", under(internal_fixation=0.31), CHANNELS)
    assert Outbox(store).waiting() == {}


def test_a_message_that_waits_gives_way_to_a_more_urgent_one_of_its_case(store):
    calm = under(femoral_neck_fracture=0.9)
    store.record(start(store), [screened(film(), both_kinds(), rule=calm)], calm, CHANNELS)
    (under_way,) = pending(store)
    store.apply_rule("model", RULE, CHANNELS)
    (message,) = pending(store)
    assert message.rule_id == RULE.rule_id
    Outbox(store).mark_delivered(under_way)  # it was being delivered meanwhile
    assert pending(store) == [message]  # and has reported less


def test_a_content_of_which_one_model_told_is_told_of_again_only_if_another_finds_worse(store):
    for model_id, category, messages in (("a", ROUTINE, 2), ("b", ROUTINE, 0), ("c", URGENT, 2)):
        store.record(
            start(store, model_id), [screened(film(), scored_hip(category))], RULE, CHANNELS
        )
        assert deliver_all(store) == messages


def test_a_channel_that_is_set_later_is_told_of_each_flagged_case_once(store):
    store.record(start(store), [screened(film(), scored_hip(URGENT))], RULE, ["spool"])
    for _ in range(2):
        store.apply_rule("model", RULE, CHANNELS)
    assert Outbox(store).waiting() == {"spool": 1, "webhook": 1}


def test_the_worklist_is_flagged_hips_unread_films_and_marks_and_nothing_else(store):
    run = start(store)
    outcomes = [
        screened(film("normal", uid="1")),
        screened(film("arthritis", uid="2"), scored_hip(Category.OSTEOARTHRITIS)),
        screened(film("marked", uid="3"), marks=[Mark.ONE_HIP_FOUND]),
        Refusal(Path("/in/broken.dcm"), Code.TRUNCATED, content_hash=content("broken")),
        Refusal(Path("/in/tibia.dcm"), Code.NO_HIP_FOUND, content_hash=content("tibia")),
        Refusal(Path("/in/chest.dcm"), Code.WRONG_BODY_PART, content_hash=content("chest")),
        Refusal(Path("/in/ct.dcm"), Code.WRONG_MODALITY, content_hash=content("ct")),
        Refusal(Path("/in/report.dcm"), Code.WRONG_OBJECT, content_hash=content("report")),
    ]
    store.record(run, outcomes, RULE)
    names = [case.path.stem for case in store.worklist(RULES)]
    assert names == ["arthritis", "marked", "broken", "tibia", "chest"]
    assert [case.path.stem for case in store.other_modalities(RULES)] == ["ct", "report"]


def test_the_worklist_can_begin_at_a_moment(store):
    store.record(start(store), [screened(film(), scored_hip(Category.OSTEOARTHRITIS))], RULE)
    now = datetime.now(timezone.utc)
    (case,) = store.worklist(RULES, now - timedelta(minutes=1))
    recorded = datetime.fromisoformat(case.recorded_at.replace("Z", "+00:00"))
    assert list(store.worklist(RULES, recorded))
    assert not list(store.worklist(RULES, now + timedelta(minutes=1)))


@pytest.mark.parametrize(
    "what",
    [
        "1",
        "1.2.3",
        sha("film")[:6],
        sha("film")[:8].upper(),
        content("film")[:13],
        content("film"),
        "/in/film.dcm",
    ],
)
def test_a_case_is_found_by_row_instance_hash_or_path(store, what):
    store.record(start(store), [screened(film(uid="1.2.3"))], RULE)
    assert [case.file_id for case in store.find(RULES, what)] == [1]


def test_a_few_letters_of_a_hash_find_nothing(store):
    store.record(start(store), [screened(film())], RULE)
    assert store.find(RULES, sha("film")[:5]) == []


@pytest.mark.parametrize("name", ["a'b;--", "line\nbreak", "100%", "ünïcode"])
def test_any_file_name_is_stored_and_found(store, name):
    store.record(start(store), [screened(film(name))], RULE)
    assert [case.path.stem for case in store.find(RULES, f"/in/{name}.dcm")] == [name]


def test_a_file_name_that_is_not_utf8_is_stored_and_found(store):
    path = Path(os.fsdecode(b"/in/\xff\xfe.dcm"))
    store.record(start(store), [Refusal(path, Code.EMPTY_FILE, content_hash=content(""))], RULE)
    (case,) = store.all_cases(RULES)
    assert case.path == path


def test_a_batch_is_recorded_whole_or_not_at_all(store):
    run = start(store)
    broken = screened(film("two"))
    object.__setattr__(broken, "findings", ())
    with pytest.raises(ValueError, match="zip"):
        store.record(run, [screened(film("one")), broken], RULE)
    assert list(store.all_cases(RULES)) == []


def test_a_database_that_is_not_ours_is_an_error(db):
    db.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(db)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_database_and_its_journal_are_private_whatever_the_umask(db, umask):
    before = os.umask(umask)
    try:
        with Store(db) as store, store.transaction():
            store.execute("create table more (a)")
            files = {path.name: path.stat().st_mode & 0o777 for path in db.parent.iterdir()}
    finally:
        os.umask(before)
    assert len(files) > 1
    assert set(files.values()) == {0o600}


def test_a_database_keeps_the_permissions_that_a_site_has_given_it(db):
    Store(db).__exit__(None, None, None)
    db.chmod(0o640)
    with Store(db) as store:
        store.record(start(store), [screened(film())], RULE)
    assert db.stat().st_mode & 0o777 == 0o640


def test_a_new_database_is_made_whole_or_not_at_all(db, monkeypatch):
    def fail(database):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(migrations._migrations[-1], "fn", fail)
    with pytest.raises(StoreUnavailable):
        Store(db)
    assert one_row(db, "select count(*) from sqlite_master") == (0,)
    monkeypatch.undo()
    with Store(db):
        assert one_row(db, "select count(*) from _sqlite_migrations") != (0,)


def test_a_database_that_is_up_to_date_is_opened_while_another_process_writes(store, db):
    with store.transaction(), Store(db, busy_timeout_s=0.0) as other:
        assert other.contents("model") == frozenset()


def test_a_database_in_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="unable to open"):
        Store(tmp_path / "none" / "cases.db")


def test_a_read_only_store_reads_and_says_what_it_cannot_do(store, db):
    store.record(start(store), [screened(film())], RULE)
    with Store(db, read_only=True) as reader:
        assert len(list(reader.all_cases(RULES))) == 1
        assert reader.apply_rule("model", RULE) == 0
        other = replace(RULE, temperature=2.0)
        with pytest.raises(StoreError, match="hipedge flagged"):
            reader.apply_rule("model", other)
        with pytest.raises(StoreError, match="readonly"):
            reader.claim([Path("/in/film.dcm")])


def test_an_empty_database_opened_read_only_says_what_makes_it(db):
    sqlite3.connect(db).close()
    db.touch()
    with pytest.raises(StoreError, match="hipedge screen"):
        Store(db, read_only=True)


def test_a_commit_is_durable_and_the_journal_is_sound_for_this_sqlite(store):
    wal = sqlite3.sqlite_version_info >= (3, 51, 3)
    modes = [store.query(f"pragma {name}")[0][name] for name in ("journal_mode", "synchronous")]
    assert modes == (["wal", 2] if wal else ["delete", 3])


def test_a_locked_database_is_one_to_try_again_and_a_wrong_statement_is_not(store, db):
    with (
        closing(sqlite3.connect(db, isolation_level=None)) as other,
        Store(db, busy_timeout_s=0.05) as impatient,
    ):
        other.execute("begin immediate")
        with pytest.raises(StoreUnavailable, match="locked"):
            start(impatient)
        other.execute("rollback")
        with pytest.raises(StoreError, match="no such table") as raised:
            impatient.query("select 1 from elsewhere")
    assert not isinstance(raised.value, StoreUnavailable)


def hold_the_lock(db, seconds, locked):
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("begin immediate")
        locked.set()
        time.sleep(seconds)
        connection.execute("commit")


def test_a_writer_waits_for_another(store, db):
    context = multiprocessing.get_context("spawn")
    locked = context.Event()
    other = context.Process(target=hold_the_lock, args=(db, 1.0, locked))
    other.start()
    assert locked.wait(30)
    store.record(start(store), [screened(film())], RULE)
    other.join()
    assert len(list(store.all_cases(RULES))) == 1


def record_until_killed(db, recorded):
    with Store(db) as store:
        run = start(store)
        for number in range(10_000):
            name = f"film{number}"
            store.record(run, [screened(film(name, uid=f"1.{number}"))], RULE)
            recorded.value = number + 1


def test_a_process_killed_while_it_writes_loses_nothing_that_it_committed(db):
    context = multiprocessing.get_context("spawn")
    recorded = context.Value("i", 0)
    writer = context.Process(target=record_until_killed, args=(db, recorded))
    writer.start()
    while recorded.value < 20:
        time.sleep(0.01)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert one_row(db, "pragma integrity_check") == ("ok",)
    (files,) = one_row(db, "select count(*) from files")
    (decisions,) = one_row(db, "select count(*) from decisions")
    assert files == decisions
    assert recorded.value <= files <= recorded.value + 1


def test_a_content_that_can_be_read_at_last_takes_the_place_of_its_refusal(store, db):
    run = start(store)
    one = screened(film("one", uid="1.2.3"), scored_hip(Category.FEMORAL_NECK_FRACTURE))
    full = Refusal(
        Path("/in/one.dcm"), Code.TOO_LARGE, "needs more memory", content_hash=content("one")
    )
    store.record(run, [full], RULE, ["spool"])
    store.record(run, [replace(full, source=Path("/in/copy.dcm"))], RULE, ["spool"])
    (stands,) = store.record(run, [one], RULE, ["spool"])
    assert stands is one
    assert one_row(db, "select state, code, detail, count(*) from files") == (
        "screened", None, None, 1,
    )  # fmt: skip
    assert one_row(db, "select count(*), group_concat(distinct state) from paths") == (
        2, "screened",
    )  # fmt: skip
    assert one_row(db, "select count(*) from hips") == (1,)
    assert one_row(db, "select count(*) from outbox") == (1,)


def test_a_better_outcome_changes_no_other_file_and_no_path_that_is_queued(store):
    run = start(store)
    full = Refusal(Path("/in/one.dcm"), Code.TOO_LARGE, content_hash=content("one"))
    copies = [replace(full, source=Path(f"/in/copy{n}.dcm")) for n in range(2)]
    other = Refusal(Path("/in/other.dcm"), Code.TRUNCATED, content_hash=content("other"))
    store.record(run, [full, *copies, other], RULE)
    Queue(store).requeue({1: {copies[0].source: copies[0].source}})
    store.claim([full.source])
    store.record(run, [screened(film("one", uid="1.2.3"))], RULE)
    rows = store.query("select path, state from paths order by path")
    assert {Path(row["path"]).stem: row["state"] for row in rows} == {
        "copy0": "seen",
        "copy1": "screened",
        "one": "screened",
        "other": "quarantined",
    }


def test_a_file_that_was_recorded_without_a_claim_counts_one_attempt(store, db):
    store.record(start(store), [screened(film())], RULE)
    assert one_row(db, "select attempts from files") == (1,)


def test_a_case_that_does_not_exist_is_an_error(store):
    with pytest.raises(StoreError, match="no case 7"):
        store.case(7, RULE.rule_id)


def test_the_models_of_a_database_are_its_cards_by_id(store):
    start(store)
    start(store, "better")
    start(store)
    assert store.models() == {"model": "{}", "better": "{}"}


def test_that_a_database_cannot_be_written_shows_before_a_run(store, db):
    store.require_writable()
    with Store(db, read_only=True) as reader, pytest.raises(StoreError, match="readonly"):
        reader.require_writable()


def test_a_run_that_ended_has_its_time(store, db):
    store.finish_run(start(store))
    start(store)
    rows = store.query("select finished_at >= started_at as ended from runs order by id")
    assert [row["ended"] for row in rows] == [1, None]


def test_what_another_rule_flags_is_not_reported_under_this_one(store):
    store.record(start(store), [screened(film(), scored_hip(URGENT))], RULE)
    assert store.apply_rule("model", NOTHING, CHANNELS) == 1
    assert Outbox(store).waiting() == {}


def test_a_conflict_is_added_to_the_marks_of_a_film(store, db):
    run = start(store)
    marked = screened(film("one", uid="1.2.3", pixels="a"), marks=[Mark.SIDE_UNCLEAR])
    store.record(run, [marked], RULE)
    store.record(run, [screened(film("two", uid="1.2.3", pixels="b"))], RULE)
    assert one_row(db, "select marks from files") == ('["conflict","side_unclear"]',)


def test_a_refusal_never_takes_the_place_of_a_result(store, db):
    run = start(store)
    store.record(run, [screened(film("one", uid="1.2.3"))], RULE)
    store.record(run, [Refusal(Path("/in/x"), Code.TOO_LARGE, content_hash=content("one"))], RULE)
    assert one_row(db, "select state, count(*) from files") == ("screened", 1)


def test_of_two_reasons_for_which_a_film_is_not_applicable_the_first_stays(store, db):
    run = start(store)
    for code in (Code.WRONG_BODY_PART, Code.LATERAL_VIEW):
        store.record(run, [Refusal(Path("/in/one.dcm"), code, content_hash=content("one"))], RULE)
    assert one_row(db, "select code, count(*) from files") == ("wrong_body_part", 1)


def test_only_a_duplicate_names_its_original(store, db):
    run = start(store)
    store.record(run, [screened(film("one", uid="1.2.3"))], RULE)
    other = film("two", uid="1.2.3")
    refusal = Refusal(other.source, Code.NO_HIP_FOUND, content_hash=other.content_hash, film=other)
    store.record(run, [refusal], RULE)
    assert one_row(db, "select code, duplicate_of from files where id = 2") == (
        "no_hip_found", None,
    )  # fmt: skip


def test_a_message_that_waits_is_kept_where_its_case_is_as_urgent_as_before(store, db):
    store.record(start(store), [screened(film(), scored_hip(URGENT))], RULE, ["spool"])
    (message,) = pending(store)
    assert Outbox(store).start_attempt(message)
    store.apply_rule("model", under(osteoarthritis=0.31), ["spool"])
    assert pending(store) == [message]
    assert one_row(db, "select attempts from outbox") == (1,)


def test_a_file_that_fails_in_another_way_says_so(store, db):
    run, path = start(store), Path("/in/one.dcm")
    store.record(run, [Refusal(path, Code.EMPTY_FILE)], RULE)
    store.record(run, [Refusal(path, Code.WORKER_DIED)], RULE)
    assert one_row(db, "select code, count(*) from files") == ("worker_died", 1)


@pytest.mark.parametrize(
    "correction",
    [
        {"laterality": Laterality.LEFT},
        {"orientation": ("R", "F")},
        {"inverted": True},
    ],
    ids=lambda correction: next(iter(correction)),
)
def test_a_film_that_is_sent_again_corrected_is_no_duplicate_but_a_conflict(store, db, correction):
    run = start(store)
    first = film("one", uid="1.2.3")
    store.record(run, [screened(first)], RULE)
    corrected = replace(film("two", uid="1.2.3"), **correction)
    assert store.same_pixels(run, corrected) is None
    store.claim([corrected.source])
    store.record(run, [screened(corrected)], RULE)
    assert [case.marks for case in store.all_cases(RULES)] == [(Mark.CONFLICT,)] * 2
    # The same again is one.
    store.claim([corrected.source])
    (stands,) = store.record(
        run, [screened(replace(corrected, content_hash=content("three")))], RULE
    )
    assert stands.code is Code.SAME_PIXELS


def test_what_is_queued_to_be_read_again_is_not_known(store):
    run = start(store)
    store.record(run, [Refusal(Path("/in/x"), Code.TOO_LARGE, content_hash=content("one"))], RULE)
    assert content("one") in store.contents(run.model_id)
    with store.transaction():
        store.execute("update paths set state = 'seen'")
    assert content("one") not in store.contents(run.model_id)


def test_a_case_is_found_by_a_path_that_is_no_utf_8(store):
    path = Path(os.fsdecode(b"/in/M\xfcller.dcm"))
    store.record(start(store), [Refusal(path, Code.TRUNCATED, content_hash=content("x"))], RULE)
    assert [case.path for case in store.find(RULES, str(path))] == [path]
    assert store.find(RULES, os.fsdecode(b"M\xfcller")) == []
