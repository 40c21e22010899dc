"""Recording the outcomes of the pipeline, and finding cases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from hipedge.content import starts_of
from hipedge.errors import CODES, State, StoreError
from hipedge.rules.decide import Rule, decide
from hipedge.store.connection import Connection, now_text, utc_moment, utc_text
from hipedge.store.outbox import ResultPolicy, is_reportable
from hipedge.store.rows import (
    Case,
    Row,
    case_from_row,
    file_row,
    film_columns,
    finding_from_row,
    finding_row,
    hip_from_row,
    hip_row,
    logits_from_json,
    path_from_text,
    path_to_text,
    to_json,
)
from hipedge.types import (
    CODESTREAM_HASH,
    Film,
    Finding,
    Known,
    Mark,
    Outcome,
    Priority,
    Refusal,
    ScoredHip,
    Screened,
)
from hipedge.versions import PIPELINE_VERSION

_PRIORITIES = tuple(Priority)
# The columns in which two files of one film agree: the pixels, and how they are to be read.
_HASH_COLUMNS = ("pixel_hash", "overview_hash")
_IMAGE_COLUMNS = ("laterality", "orientation", "inverted")
_NO_REFUSAL = {"stage": None, "code": None, "detail": None, "duplicate_of": None}
# For the same content, an outcome replaces one whose state comes earlier here.
_STATE_RANK = (State.QUARANTINED, State.NOT_APPLICABLE, State.DUPLICATE, State.SCREENED)
# The urgency of a film that was not read: after those that may be urgent.
_UNREAD = _PRIORITIES.index(Priority.ROUTINE)
_NO_RESULTS = ResultPolicy()
_MOST_PARAMETERS = 500  # SQLite allowed 999 in one statement until 3.32
_FILES = (
    "select files.*, models.name as model_name, models.status as model_status,"
    " json_extract(models.card, '$.status_text') as model_status_text,"
    " json_extract(models.card, '$.version') as model_version, runs.backend"
    " from files join runs on runs.id = files.run_id"
    " join models on models.model_id = files.model_id"
)


@dataclass(frozen=True)
class Run:
    """One run of one model, to which rows of `files` refer."""

    run_id: int
    model_id: str


class Store(Connection):
    """The database of one site, closed at the end of a `with` block.

    Any number of processes may read, and writers wait for each other. The methods raise
    `StoreError` where SQLite reports an error; everything committed before is kept.
    """

    def require_writable(self) -> None:
        """Raise `StoreError` if the database cannot be written."""
        with self.transaction():
            self.execute("update runs set started_at = started_at where false")

    def start_run(
        self,
        *,
        model_id: str,
        model_name: str,
        model_status: str,
        card: str,
        backend: str,
        backend_reason: str,
        versions: Mapping[str, str],
    ) -> Run:
        """Record the start of a run, and its model."""
        model = {
            "model_id": model_id,
            "name": model_name,
            "status": model_status,
            "card": card,
        }
        run = {
            "started_at": now_text(),
            "model_id": model_id,
            "pipeline_version": PIPELINE_VERSION,
            "backend": backend,
            "backend_reason": backend_reason,
            "versions": to_json(versions),
        }
        with self.transaction():
            self.table("models").insert(model, ignore=True)
            return Run(self.insert("runs", run), model_id)

    def finish_run(self, run: Run) -> None:
        """Record the end of a run."""
        with self.transaction():
            self.table("runs").update(run.run_id, {"finished_at": now_text()})

    def claim(self, paths: Iterable[Path], signatures: Mapping[Path, str] | None = None) -> None:
        """Commit the start of an attempt at each path, before any byte of it is decoded.

        The count of attempts restarts for a path whose signature has changed since the last one.
        A finished path that is tried again has not arrived again.
        """
        known = signatures or {}
        rows = [(path_to_text(path), now_text(), known.get(path)) for path in paths]
        with self.transaction():
            self.execute_many(
                "insert into paths (path, attempts, seen_at, state, signature)"
                " values (?, 1, ?, 'claimed', ?) on conflict (path) do update set"
                " attempts = iif(signature is excluded.signature, attempts + 1, 1),"
                " arrived_at = iif(state in ('seen', 'settling', 'claimed'), arrived_at, null),"
                " seen_at = excluded.seen_at, state = 'claimed', signature = excluded.signature",
                rows,
            )

    def contents(self, model_id: str) -> frozenset[str]:
        """Return a hash of every content that has a row for this model: BLAKE3, or else SHA-256.

        Contents that are queued to be read again (`hipedge retry`) are left out.
        """
        rows = self.query(
            "select coalesce(blake3, files.content_hash) as hash"
            " from files left join sha256_names using (content_hash)"
            " where files.content_hash is not null and model_id = ? and pipeline_version = ?"
            " and not exists (select 1 from paths"
            " where file_id = files.id and paths.state in ('seen', 'settling', 'claimed'))",
            [model_id, PIPELINE_VERSION],
        )
        return frozenset(row["hash"] for row in rows)

    def knows_by_sha256(self) -> bool:
        """Return whether some contents can be recognised by SHA-256 alone.

        hipedge 0.2 or before recorded them, and they were not met since.
        """
        return bool(self.query("select 1 from sha256_names where blake3 is null limit 1"))

    def recorded_among(self, model_id: str, outcomes: Iterable[Outcome]) -> frozenset[str]:
        """Return the content hashes of those outcomes whose contents have a row for this model."""
        return frozenset(
            one.content_hash
            for one in outcomes
            if one.content_hash is not None
            and self.query(
                "select 1 from files where content_hash = ? and model_id = ?"
                " and pipeline_version = ?",
                [self._name(one.content_hash, one.sha256), model_id, PIPELINE_VERSION],
            )
        )

    def same_pixels(self, run: Run, film: Film) -> int | None:
        """Return the id of the screened file with this film's SOP Instance UID and pixels.

        A film that is sent again with another laterality, orientation or polarity is a correction
        and no duplicate: its findings differ, or belong to the other side.
        """
        columns = film_columns(film)
        image = _image_of(columns)
        rows = self._screened_instances(run, film)
        return next(
            (row["id"] for row in rows if _image_of(row) == image and _pixels_equal(row, columns)),
            None,
        )

    def _screened_instances(self, run: Run, film: Film) -> list[Row]:
        columns = ", ".join(("id", "marks", *_HASH_COLUMNS, *_IMAGE_COLUMNS))
        return self.query(
            f"select {columns} from files where sop_instance_uid = ?"
            " and state = 'screened' and model_id = ? and pipeline_version = ?",
            [film.sop_instance_uid, run.model_id, PIPELINE_VERSION],
        )

    def record(
        self,
        run: Run,
        outcomes: Iterable[Outcome],
        rule: Rule,
        channels: Sequence[str] = (),
        results: ResultPolicy = _NO_RESULTS,
    ) -> list[Outcome]:
        """Write outcomes, their hips, findings and messages in one transaction.

        Each flagged case is put into the outbox of each of `channels`, and each case whose result
        is to be sent into that of the channels of `results`. A content has one row: a
        new outcome replaces a worse one of the same content (see `_supersedes`), and otherwise
        the path is linked to the existing row. A film is recorded as a duplicate only of a
        screened film with its SOP Instance UID and pixels. Returns the outcomes as recorded.
        """
        recorded = list[Outcome]()
        with self.transaction():
            self._save_rule(rule)
            for outcome in outcomes:
                written, file_id = self._record_outcome(run, outcome, rule)
                if file_id is not None and isinstance(written, Screened):
                    self._enqueue_messages(file_id, written.findings, rule, channels)
                if file_id is not None:
                    self._enqueue_result(file_id, written, rule, results)
                recorded.append(written)
        return recorded

    def link(self, run: Run, files: Collection[Known]) -> None:
        """Link the path of each file to the row of its content."""
        if not files:
            return
        with self.transaction():
            for file in files:
                name = self._noted_name(file.content_hash, file.sha256)
                row = self._row_of_content(run, file.source, name)
                if row is None:
                    raise StoreError(f"{self.path} has no row for the content {name}")
                self._link(run, file.source, row["id"])

    def apply_rule(
        self,
        model_id: str,
        rule: Rule,
        channels: Sequence[str] = (),
        results: ResultPolicy = _NO_RESULTS,
    ) -> int:
        """Decide on every hip that has no decision under this rule, from the stored logits.

        Returns the number of new decisions. The cases that the rule flags are put into the outbox
        of each of `channels`, also those that another process has decided on. Where the rule has
        changed, so are the results of flagged cases since the first one that was sent: earlier
        ones were not meant for that receiver. No inference runs.
        """
        if not channels and not self._undecided(model_id, rule, limit=1):
            return 0  # the usual case, in which a reader needs no lock
        if self._read_only:
            raise StoreError(
                f"{self.path} holds no decisions under the present thresholds and may not be "
                "written: run `hipedge flagged` once as a user who may"
            )
        with self.transaction():
            self._save_rule(rule)
            # Read within the transaction, since another process may have decided in the meantime.
            undecided = self._undecided(model_id, rule)
            for row in undecided:
                finding = decide(logits_from_json(row["logits"]), rule)
                self._save_decision(row["id"], row["day"], finding, rule)
            if channels:
                for file_id, findings in self._flagged(model_id, rule):
                    self._enqueue_messages(file_id, findings, rule, channels)
            if undecided:
                for file_id, findings in self._flagged(model_id, rule):
                    for channel in self._channels_in_use(results, file_id):
                        urgency = _urgency(findings)
                        self._insert_result(channel, file_id, State.SCREENED, urgency, rule)
        return len(undecided)

    def request_results(
        self,
        cases: Iterable[Case],
        rules: Mapping[str, Rule],
        channels: Sequence[str],
        *,
        again: bool = False,
    ) -> list[str]:
        """Put the results of some cases into the outbox; return the keys of their messages.

        Those that were delivered stay so, unless `again`: then every object of theirs is sent anew.
        Others are tried at once.
        """
        keys = list[str]()
        with self.transaction():
            for case in cases:
                rule = rules[case.model_id]
                self._save_rule(rule)
                urgency = _urgency(case.findings) if case.findings else _UNREAD
                key = self._result_key(case.file_id, case.state, urgency)
                for channel in channels:
                    self._insert_message(channel, key, case.file_id, case.state, urgency, rule)
                keys.append(key)
            if again:
                self.execute_many(
                    "update outbox set delivered_at = null where key = ?", _each(keys)
                )
                self.execute_many("delete from deliveries where message_key = ?", _each(keys))
            self.execute_many("update outbox set retry_at = null where key = ?", _each(keys))
        return keys

    def places(self, file_id: int) -> list[Path]:
        """Return where a content was found, and where its films were moved, the newest first."""
        rows = self.query(
            "select path, moved_to from paths where file_id = ? order by seen_at desc", [file_id]
        )
        texts = [text for row in rows for text in (row["path"], row["moved_to"]) if text]
        return [path_from_text(text) for text in dict.fromkeys(texts)]

    def models(self) -> dict[str, str]:
        """Return the card of every model in the database, as JSON, by model id."""
        rows = self.query("select model_id, card from models")
        return {row["model_id"]: row["card"] for row in rows}

    def worklist(self, rules: Mapping[str, Rule], since: datetime | None = None) -> Iterator[Case]:
        """Yield, oldest first, each case that a human must see.

        These are cases with a flagged hip or a mark, and films that were not read. Files of other
        modalities are not among them: `other_modalities`. `rules` are by model id; `since` is
        compared with the time of recording.
        """
        other = other_modality_codes()
        return self._cases(
            "files.recorded_at >= ? and (files.state = 'quarantined'"
            f" or (files.state = 'not_applicable' and files.code not in ({_slots(other)}))"
            " or files.marks <> '[]' or exists (select 1 from hips"
            " join decisions on decisions.hip_id = hips.id"
            f" where hips.file_id = files.id and flagged and rule_id in ({_slots(rules)})))",
            [utc_text(since) if since else "", *other, *(rule.rule_id for rule in rules.values())],
            rules,
        )

    def other_modalities(
        self, rules: Mapping[str, Rule], since: datetime | None = None
    ) -> Iterator[Case]:
        """Yield, oldest first, each file that is neither a radiograph nor a picture."""
        other = other_modality_codes()
        return self._cases(
            f"files.recorded_at >= ? and files.code in ({_slots(other)})",
            [utc_text(since) if since else "", *other],
            rules,
        )

    def has_instance(self, sop_instance_uid: str) -> bool:
        """Return whether a file with this SOP Instance UID is recorded."""
        sql = "select 1 from files where sop_instance_uid = ? limit 1"
        return bool(self.query(sql, [sop_instance_uid]))

    def find(self, rules: Mapping[str, Rule], key: str) -> list[Case]:
        """Return the cases with this row id, path, SOP Instance UID, or start of a content's hash.

        The start of a hash has at least 6 digits.
        """
        path = key if "://" in key else path_to_text(Path(key).absolute())
        text = key.encode("utf-8", "replace").decode()  # SQLite takes no surrogates
        by_hash, hashes = files_by_hash(text)
        return list(
            self._cases(
                "cast(files.id as text) = ? or files.sop_instance_uid = ?"
                f" or files.id in ({by_hash})"
                " or files.id in (select file_id from paths where path = ?) or files.path = ?",
                [text, text, *hashes, path, path],
                rules,
            )
        )

    def all_cases(self, rules: Mapping[str, Rule]) -> Iterator[Case]:
        """Yield every case, oldest first."""
        return self._cases("1", [], rules)

    def case(self, file_id: int, rule_id: str) -> Case:
        """Return one row of `files`, with its decisions under a rule."""
        rows = self.query(f"{_FILES} where files.id = ?", [file_id])
        if not rows:
            raise StoreError(f"{self.path} has no case {file_id}")
        return self._case(rows[0], rule_id)

    def cases_by_rules(
        self, file_ids: Sequence[int], rules: Mapping[str, Rule]
    ) -> tuple[Case, ...]:
        """Return some rows of `files`, each with its decisions under the rule of its model.

        However many there are, it takes one query, and one more for the hips of each model.
        """
        rows = self.query(f"{_FILES} where files.id in ({_slots(file_ids)})", list(file_ids))
        found = {row["id"]: row for row in rows if row["model_id"] in rules}
        for file_id in file_ids:
            if file_id not in found:
                raise StoreError(f"{self.path} has no case {file_id}")
        hips = dict[int, list[tuple[ScoredHip, Finding]]]()
        for model_id in {row["model_id"] for row in rows}:
            screened = [
                row["id"]
                for row in rows
                if row["model_id"] == model_id and row["state"] == State.SCREENED.value
            ]
            hips |= self._hips(screened, rules[model_id].rule_id)
        return tuple(case_from_row(found[one], hips.get(one, [])) for one in file_ids)

    def undecided_after(self, hip_id: int, rules: Mapping[str, Rule]) -> tuple[bool, int]:
        """Return whether a hip newer than `hip_id` has no decision, and the newest hip's id.

        `rules` are by model. A list of flagged hips is complete only where every hip is decided.
        """
        missing = any(
            self.query(
                "select 1 from hips join files on files.id = hips.file_id where hips.id > ?"
                " and files.model_id = ? and not exists (select 1 from decisions"
                " where decisions.hip_id = hips.id and decisions.rule_id = ?) limit 1",
                [hip_id, model_id, rule.rule_id],
            )
            for model_id, rule in rules.items()
        )
        (row,) = self.query("select coalesce(max(id), 0) as newest from hips")
        return missing, row["newest"]

    def _cases(
        self, condition: str, parameters: Sequence[object], rules: Mapping[str, Rule]
    ) -> Iterator[Case]:
        """Yield the newest row of each content that meets an SQL condition on `files`."""
        rows = self.query(
            f"{_FILES} where files.id in"
            " (select max(id) from files group by coalesce(content_hash, path))"
            f" and ({condition}) order by files.id",
            parameters,
        )
        for row in rows:
            yield self._case(row, rules[row["model_id"]].rule_id)

    def _case(self, row: Row, rule_id: str) -> Case:
        if row["state"] != State.SCREENED.value:
            return case_from_row(row, [])
        return case_from_row(row, self._hips([row["id"]], rule_id).get(row["id"], []))

    def _hips(
        self, file_ids: Sequence[int], rule_id: str
    ) -> dict[int, list[tuple[ScoredHip, Finding]]]:
        """Return the hips of some rows of `files`, with their findings under a rule."""
        rows = self.query(
            "select * from hips join decisions on decisions.hip_id = hips.id"
            f" where hips.file_id in ({_slots(file_ids)}) and decisions.rule_id = ?"
            " order by hips.file_id, hips.id",
            [*file_ids, rule_id],
        )
        return {
            file_id: [(hip_from_row(row), finding_from_row(row)) for row in rows_of_file]
            for file_id, rows_of_file in groupby(rows, key=itemgetter("file_id"))
        }

    def _record_outcome(self, run: Run, outcome: Outcome, rule: Rule) -> tuple[Outcome, int | None]:
        """Write an outcome; return it as recorded, and the id of its row.

        The id is None where an earlier row of the same content is kept. A screened film becomes a
        duplicate if the same content, or the same film, was screened before.
        """
        film = outcome.film
        path, content_hash = outcome.source, outcome.content_hash
        if content_hash is not None:
            content_hash = self._noted_name(content_hash, outcome.sha256)
        known = self._row_of_content(run, path, content_hash)
        original = None
        if film is not None and (isinstance(outcome, Screened) or outcome.state is State.DUPLICATE):
            original = self.same_pixels(run, film)
        if isinstance(outcome, Screened) and (
            original is not None or (known is not None and known["state"] == State.SCREENED.value)
        ):
            outcome = Refusal.of_duplicate(outcome.film, outcome.timings_ms)
        now = datetime.now().astimezone()
        attempts, arrived_at = self._attempts(path)
        row = file_row(outcome) | {
            "content_hash": content_hash,
            "path": path_to_text(path),
            "run_id": run.run_id,
            "model_id": run.model_id,
            "pipeline_version": PIPELINE_VERSION,
            "recorded_at": utc_text(now),
            "day": now.date().isoformat(),
            "waited_s": _waited_s(arrived_at, now) if isinstance(outcome, Screened) else None,
            "attempts": attempts,
            "duplicate_of": original,
        }
        if known is not None and not _supersedes(row, known):
            self._link(run, path, known["id"])
            return outcome, None
        file_id = self.insert("files", row) if known is None else self._replace(known["id"], row)
        self._link(run, path, file_id)
        if isinstance(outcome, Screened):
            for hip, finding in zip(outcome.hips, outcome.findings, strict=True):
                hip_id = self.insert("hips", hip_row(hip) | {"file_id": file_id})
                self._save_decision(hip_id, row["day"], finding, rule)
            self._mark_conflict(run, outcome.film)
        return outcome, file_id

    def _replace(self, file_id: int, row: Row) -> int:
        """Replace the outcome in a row of `files`, and set the state of its finished paths."""
        self.table("files").update(file_id, {**_NO_REFUSAL, **row})
        rows = self.query(
            "select path from paths where file_id = ? and state not in"
            " ('seen', 'settling', 'claimed', 'vanished')",
            [file_id],
        )
        for state in ("claimed", row["state"]):  # terminal states have no direct transition
            self.execute_many(
                "update paths set state = ? where path = ?",
                [(state, path_row["path"]) for path_row in rows],
            )
        return file_id

    def _undecided(self, model_id: str, rule: Rule, limit: int = -1) -> list[Row]:
        """Return the ids and logits of a model's hips that have no decision under a rule."""
        return self.query(
            "select hips.id, hips.logits, files.day from hips join files on files.id = hips.file_id"
            " where files.model_id = ? and not exists (select 1 from decisions"
            " where decisions.hip_id = hips.id and decisions.rule_id = ?) limit ?",
            [model_id, rule.rule_id, limit],
        )

    def _flagged(self, model_id: str, rule: Rule) -> Iterator[tuple[int, list[Finding]]]:
        """Yield, oldest first, each file that a rule flags, with its flagged findings."""
        rows = self.query(
            "select hips.file_id, decisions.* from decisions join hips on hips.id = hip_id"
            " join files on files.id = hips.file_id"
            " where model_id = ? and rule_id = ? and flagged order by hips.file_id, hips.id",
            [model_id, rule.rule_id],
        )
        for file_id, rows_of_file in groupby(rows, key=itemgetter("file_id")):
            yield file_id, [finding_from_row(row) for row in rows_of_file]

    def _enqueue_messages(
        self, file_id: int, findings: Sequence[Finding], rule: Rule, channels: Sequence[str]
    ) -> None:
        """Put a case with a flagged hip into the outbox of each channel.

        Its urgency is that of its most urgent flagged hip. A channel with a message of the same
        content that is as urgent, under any rule or model, gets none. Undelivered messages of the
        content that are less urgent are removed.
        """
        if not any(finding.flagged for finding in findings):
            return
        priority = _urgency(findings)
        (row,) = self.query(
            "select content_hash, model_id, pipeline_version from files where id = ?", [file_id]
        )
        key = hashlib.sha256(json.dumps([*row.values(), priority]).encode()).hexdigest()
        of_content = "channel = ? and file_id in (select id from files where content_hash = ?)"
        for channel in channels:
            content = [channel, row["content_hash"]]
            self.execute(
                f"delete from outbox where {of_content} and delivered_at is null and priority > ?",
                [*content, priority],
            )
            self.execute(
                "insert into outbox (channel, key, file_id, rule_id, priority, created_at)"
                " select ?, ?, ?, ?, ?, ? where not exists"
                f" (select 1 from outbox where {of_content} and priority <= ?)",
                [channel, key, file_id, rule.rule_id, priority, now_text(), *content, priority],
            )

    def _enqueue_result(
        self, file_id: int, outcome: Outcome, rule: Rule, policy: ResultPolicy
    ) -> None:
        """Put a case into the outbox of each channel of a policy, if its result is to be sent."""
        if isinstance(outcome, Screened):
            if not policy.unflagged and not any(f.flagged for f in outcome.findings):
                return
            state, urgency = State.SCREENED, _urgency(outcome.findings)
        else:
            if not policy.not_read or not is_reportable(outcome.code):
                return
            state, urgency = outcome.state, _UNREAD
        for channel in policy.channels:
            self._insert_result(channel, file_id, state, urgency, rule)

    def _insert_result(
        self, channel: str, file_id: int, state: State, urgency: int, rule: Rule
    ) -> None:
        """Add a message, unless one of the same case in the same state is as urgent.

        Undelivered ones that are less urgent, or of an earlier state of the case, are removed.
        """
        of_case = "channel = ? and file_id = ?"
        self.execute(
            f"delete from outbox where {of_case} and delivered_at is null"
            " and (priority > ? or state <> ?)",
            [channel, file_id, urgency, state.value],
        )
        known = self.query(
            f"select 1 from outbox where {of_case} and priority <= ? and state = ?",
            [channel, file_id, urgency, state.value],
        )
        if not known:
            key = self._result_key(file_id, state, urgency)
            self._insert_message(channel, key, file_id, state, urgency, rule)

    def _insert_message(
        self, channel: str, key: str, file_id: int, state: State, urgency: int, rule: Rule
    ) -> None:
        self.execute(
            "insert into outbox (channel, key, file_id, rule_id, priority, created_at, state)"
            " values (?, ?, ?, ?, ?, ?, ?) on conflict (channel, key) do nothing",
            [channel, key, file_id, rule.rule_id, urgency, now_text(), state.value],
        )

    def _result_key(self, file_id: int, state: State, urgency: int) -> str:
        (row,) = self.query(
            "select content_hash, path, model_id, pipeline_version from files where id = ?",
            [file_id],
        )
        parts = ["result", *row.values(), state.value, urgency]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _channels_in_use(self, policy: ResultPolicy, file_id: int) -> list[str]:
        """Return the channels on which results of this case or of earlier ones were sent."""
        sql = "select 1 from outbox where channel = ? and file_id <= ? limit 1"
        return [channel for channel in policy.channels if self.query(sql, [channel, file_id])]

    def _mark_conflict(self, run: Run, film: Film) -> None:
        """Mark all screened files with this film's SOP Instance UID, if their images differ."""
        rows = self._screened_instances(run, film)
        if _pixels_differ(rows) or len({_image_of(row) for row in rows}) > 1:
            for row in rows:
                marks = sorted({*json.loads(row["marks"]), Mark.CONFLICT.value})
                self.table("files").update(row["id"], {"marks": to_json(marks)})

    def _name(self, content_hash: str, sha256: str | None) -> str:
        """Return the name of a content in this database, which may be its SHA-256."""
        rows = self.query(
            "select content_hash from sha256_names where blake3 = ? or content_hash = ?",
            [content_hash, sha256],
        )
        return rows[0]["content_hash"] if rows else content_hash

    def _noted_name(self, content_hash: str, sha256: str | None) -> str:
        """Return `_name`; where that is SHA-256, note BLAKE3: the content is known by it now."""
        if sha256 is not None:
            self.execute(
                "update sha256_names set blake3 = ? where content_hash = ?", [content_hash, sha256]
            )
        return self._name(content_hash, sha256)

    def _row_of_content(self, run: Run, path: Path, content_hash: str | None) -> Row | None:
        """Return the row of a content, or that of a path whose content could not be read."""
        condition = "content_hash = ?" if content_hash else "content_hash is null and path = ?"
        rows = self.query(
            f"select id, state, code from files where {condition} and model_id = ?"
            " and pipeline_version = ?",
            [content_hash or path_to_text(path), run.model_id, PIPELINE_VERSION],
        )
        return next(iter(rows), None)

    def _link(self, run: Run, path: Path, file_id: int) -> None:
        """Link a path to its row, and delete the row saying that the path could not be read."""
        self.execute(
            "insert into paths (path, file_id, attempts, seen_at, state)"
            " select ?, id, 0, ?, state from files where id = ? on conflict (path) do update"
            " set file_id = excluded.file_id, attempts = 0, state = excluded.state",
            [path_to_text(path), now_text(), file_id],
        )
        self.execute(
            "delete from files where path = ? and content_hash is null and model_id = ?"
            " and id <> ?",
            [path_to_text(path), run.model_id, file_id],
        )

    def _attempts(self, path: Path) -> tuple[int, str | None]:
        """Return how often a path was tried, and when its content arrived there, if known."""
        sql = "select attempts, arrived_at from paths where path = ?"
        rows = self.query(sql, [path_to_text(path)])
        return next(((row["attempts"], row["arrived_at"]) for row in rows), (1, None))

    def _save_rule(self, rule: Rule) -> None:
        row = {"rule_id": rule.rule_id, "rule": rule.to_json()}
        self.table("rules").insert(row, ignore=True)

    def _save_decision(self, hip_id: int, day: str, finding: Finding, rule: Rule) -> None:
        row = {"hip_id": hip_id, "rule_id": rule.rule_id, "day": day}
        self.insert("decisions", finding_row(finding) | row)


def files_by_hash(text: str) -> tuple[str, list[object]]:
    """Return the statement for the ids of files whose hash begins with a text; its parameters."""
    begins = " or ".join("{0} >= ? and {0} < ?" for _ in starts_of(text)) or "false"
    bounds = [bound for start in starts_of(text) for bound in (start, f"{start}g")]
    return (
        f"select id from files where {begins.format('content_hash')}"
        " union all select id from files where content_hash in"
        f" (select content_hash from sha256_names where {begins.format('blake3')})",
        [*bounds, *bounds],
    )


def _urgency(findings: Iterable[Finding]) -> int:
    """Return the place in `Priority` of the most urgent flagged hip, or that of `NONE`."""
    flagged = [_PRIORITIES.index(finding.priority) for finding in findings if finding.flagged]
    return min(flagged, default=_PRIORITIES.index(Priority.NONE))


def _waited_s(arrived_at: str | None, now: datetime) -> float | None:
    """Return how long ago a film arrived. A clock that was set back meanwhile tells nothing."""
    if arrived_at is None:
        return None
    waited_s = (now - utc_moment(arrived_at)).total_seconds()
    return waited_s if waited_s >= 0 else None


def _each(keys: Iterable[str]) -> list[tuple[str]]:
    return [(key,) for key in keys]


def other_modality_codes() -> tuple[str, ...]:
    """Return the codes of files that are neither radiograph nor picture."""
    return tuple(code.value for code, info in CODES.items() if info.other_modality)


def _slots(values: Collection[object]) -> str:
    """Return as many SQL parameters as there are values."""
    return ",".join("?" * len(values))


def _supersedes(row: Row, known: Row) -> bool:
    """Return whether a new outcome of a content replaces the recorded one.

    A file that was quarantined for want of memory, or because of a fault that was repaired, may
    be read the next time. Of two quarantines the newer one counts if its reason is another.
    """
    new, old = (_STATE_RANK.index(State(candidate["state"])) for candidate in (row, known))
    return new > old or (new == old == 0 and row["code"] != known["code"])


def _image_of(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in _IMAGE_COLUMNS)


def _pixels_equal(a: Row, b: Row) -> bool:
    """Return whether two films certainly have the same pixels.

    Two hashes of all values can be compared. The hash of a codestream can be compared only with an
    equal one: the same values have many codestreams. Then the stored values at a low resolution
    decide, which every lossless encoding has in common; a difference that leaves all of them
    unchanged is not noticed.
    """
    if a["pixel_hash"] == b["pixel_hash"]:
        return True
    coded = _is_coded(a) or _is_coded(b)
    return coded and a["overview_hash"] is not None and a["overview_hash"] == b["overview_hash"]


def _pixels_differ(rows: Sequence[Row]) -> bool:
    """Return whether any two films certainly differ, by the hashes of `_pixels_equal`."""
    values = {row["pixel_hash"] for row in rows if not _is_coded(row)}
    overviews = {row["overview_hash"] for row in rows} - {None}
    compared = any(_is_coded(row) and row["overview_hash"] is not None for row in rows)
    return len(values) > 1 or (compared and len(overviews) > 1)


def _is_coded(row: Row) -> bool:
    return str(row["pixel_hash"]).startswith(CODESTREAM_HASH)
