"""The tables, and the migrations that bring an older database up to date.

A row of `files` is one content (`hipedge.content`) screened by one model under one pipeline
version, so screening a folder twice adds none. A row of `paths` is where a content was found and
how often it was tried. A row of `hips` keeps the logits, so that a row of `decisions`, keyed by the
rule that made it, needs no new inference.

A released migration is never edited; a change of the schema is a new migration at the end.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

from hipedge.store.states import TRANSITIONS

migrations = Migrations("hipedge")


@migrations()
def create_tables(db: Database) -> None:
    """Create the first schema."""
    for statement in _FIRST_SCHEMA:
        db.execute(statement)


_FIRST_SCHEMA = (
    """
    create table models (
        model_id text primary key,          -- SHA-256 of the card, which holds the files' hashes
        name text not null,
        status text not null,
        card text not null                  -- JSON
    ) strict
    """,
    """
    create table runs (
        id integer primary key,
        started_at text not null,
        finished_at text,                   -- null: interrupted, or still at work
        model_id text not null references models,
        pipeline_version integer not null,
        backend text not null,
        backend_reason text not null,
        versions text not null              -- JSON
    ) strict
    """,
    """
    create table files (
        id integer primary key,
        sha256 text,                        -- null: the bytes could not be read
        path text not null,                 -- where this content was first seen
        run_id integer not null references runs,
        model_id text not null references models,
        pipeline_version integer not null,
        recorded_at text not null,
        state text not null
            check (state in ('screened', 'not_applicable', 'duplicate', 'quarantined')),
        stage text,                         -- stage, code and detail: null when screened
        code text,
        detail text,
        marks text not null,                -- JSON array
        attempts integer not null,
        duplicate_of integer references files,
        pixel_sha256 text,
        sop_instance_uid text,
        study_instance_uid text,
        sop_class_uid text,
        transfer_syntax_uid text,
        modality text,
        view text,
        laterality text,
        height_px integer,
        width_px integer,
        row_spacing_mm real,
        column_spacing_mm real,
        age_years real,
        sex text,
        manufacturer text,
        timings_ms text not null,           -- JSON object, by stage
        check ((state = 'screened') = (code is null))
    ) strict
    """,
    """
    create unique index files_by_content on files (sha256, model_id, pipeline_version)
        where sha256 is not null
    """,
    """
    create unique index files_unread on files (path, model_id, pipeline_version)
        where sha256 is null
    """,
    "create index files_by_instance on files (sop_instance_uid, pixel_sha256)",
    """
    create table paths (
        path text primary key,
        file_id integer references files on delete set null,
        attempts integer not null,
        seen_at text not null
    ) strict
    """,
    """
    create table hips (
        id integer primary key,
        file_id integer not null references files on delete cascade,
        side text not null check (side in ('right', 'left', 'unknown')),
        centre_x_px real not null,          -- the femoral head's centre
        centre_y_px real not null,
        x0_px real not null,                -- the box that the network saw
        y0_px real not null,
        x1_px real not null,
        y1_px real not null,
        confidence real not null,
        mirrored integer not null,
        logits text not null,               -- JSON, one array for each way the hip was seen
        maps blob not null,                 -- float16, C order, of maps_shape
        maps_shape text not null            -- JSON: (ways, categories, height, width)
    ) strict
    """,
    "create index hips_by_file on hips (file_id)",
    """
    create table rules (
        rule_id text primary key,           -- SHA-256 of the rule
        rule text not null                  -- JSON
    ) strict
    """,
    """
    create table decisions (
        id integer primary key,
        hip_id integer not null references hips on delete cascade,
        rule_id text not null references rules,
        category text not null,
        probabilities text not null,        -- JSON, in the order of the categories
        flagged integer not null,
        flagged_for text not null,          -- JSON array of categories
        uncertain integer not null,
        priority text not null check (priority in ('urgent', 'routine', 'recorded', 'none')),
        operating_point text not null,
        unique (hip_id, rule_id)
    ) strict
    """,
)


@migrations()
def follow_paths(db: Database) -> None:
    """Add the states of paths, the outbox of notifications, and what `hipedge status` shows."""
    for statement in _SECOND_SCHEMA:
        db.execute(statement)
    transitions = [
        (state.value, successor.value)
        for state, successors in TRANSITIONS.items()
        for successor in successors
    ]
    db.conn.executemany("insert into transitions values (?, ?)", transitions)


_SECOND_SCHEMA = (
    """
    create table transitions (
        from_state text not null,
        to_state text not null,
        primary key (from_state, to_state)
    ) strict
    """,
    "alter table paths add column state text not null default 'seen'",
    # Inode, size, mtime and ctime at the last attempt or scan; a change means new content.
    "alter table paths add column signature text",
    # Where the finished film was moved, or is to be moved.
    "alter table paths add column moved_to text",
    """
    update paths set state = (select files.state from files where files.id = paths.file_id)
        where file_id is not null
    """,
    "create index paths_by_state on paths (state)",
    """
    create trigger paths_step before update of state on paths
        when new.state <> old.state and not exists (
            select 1 from transitions where from_state = old.state and to_state = new.state)
        begin select raise(abort, 'no such step between states'); end
    """,
    """
    create table outbox (
        id integer primary key,
        channel text not null,
        key text not null,                  -- equal for the same finding: the idempotency key
        file_id integer not null references files on delete cascade,
        rule_id text not null references rules,
        priority integer not null,          -- 0 is the most urgent
        created_at text not null,
        attempts integer not null default 0,
        delivered_at text,
        unique (channel, key)
    ) strict
    """,
    "create index outbox_pending on outbox (channel, priority, attempts, id) "
    "where delivered_at is null",
    """
    create table alarms (
        name text primary key,
        since text not null
    ) strict
    """,
    """
    create table service (
        id integer primary key check (id = 1),
        pid integer not null,
        scanned_at text not null,           -- of the last completed scan
        run_id integer not null references runs
    ) strict
    """,
    """
    create table roots (
        path text primary key,
        mount_point text not null           -- another one: the file system is not mounted
    ) strict
    """,
)


@migrations()
def rename_pixel_hash(db: Database) -> None:
    """Rename the hash of the pixels, which is BLAKE3 from pipeline version 2 on."""
    db.execute("alter table files rename column pixel_sha256 to pixel_hash")


@migrations()
def keep_orientation(db: Database) -> None:
    """Add the header values in which a corrected film differs from the one sent before."""
    db.execute("alter table files add column orientation text")
    db.execute("alter table files add column inverted integer")


@migrations()
def find_told(db: Database) -> None:
    """Index the messages by case."""
    db.execute("create index outbox_by_file on outbox (file_id, channel)")


@migrations()
def index_paths(db: Database) -> None:
    """Index files and moved films by path: each move of a film looks up both."""
    db.execute("create index files_by_path on files (path)")
    db.execute("create index paths_by_target on paths (moved_to) where moved_to is not null")


@migrations()
def compare_encodings(db: Database) -> None:
    """Add the hash by which films of different lossless encodings are compared."""
    db.execute("alter table files add column overview_hash text")


@migrations()
def send_results(db: Database) -> None:
    """Add when a message is tried again, and which objects of its result a receiver has."""
    for statement in _RESULTS:
        db.execute(statement)


_RESULTS = (
    # Before this time the message is not tried again; null: at once.
    "alter table outbox add column retry_at text",
    # The state of the case that the message reports: its result is another one in another state.
    "alter table outbox add column state text not null default 'screened'",
    """
    create table deliveries (
        id integer primary key,
        channel text not null,
        message_key text not null,          -- of the message in the outbox
        file_id integer not null references files on delete cascade,
        kind text not null,                 -- sc, sr, gsps or kos
        sop_class_uid text not null,
        study_instance_uid text not null,
        series_instance_uid text not null,
        sop_instance_uid text not null,
        status integer not null,            -- DIMSE status, or that of STOW-RS (PS3.18 I.2.2)
        sent_at text not null,
        confirmed_at text,                  -- when the receiver was seen to have it
        unique (channel, message_key, kind)
    ) strict
    """,
    "create index deliveries_by_file on deliveries (file_id)",
)


@migrations()
def page_worklist(db: Database) -> None:
    """Index what a page of the worklist is read by, so that its time does not grow with the rows.

    `decisions_flagged` holds what the filters ask for, so that rows which a filter leaves out are
    not looked up. Screened files are not in `files_refused`: without statistics SQLite would prefer
    it to the index by SOP Instance UID, and search all films for each new one's duplicates.
    """
    db.execute(
        "create index decisions_flagged on decisions (rule_id, priority, hip_id, flagged_for)"
        " where flagged"
    )
    db.execute("create index files_refused on files (state, id) where code is not null")
    db.execute("create index files_marked on files (id) where marks <> '[]'")
    db.execute("create index files_by_study on files (study_instance_uid)")
    db.execute("create index paths_by_file on paths (file_id)")


@migrations()
def keep_feedback(db: Database) -> None:
    """Add the answers of readers. A row is never changed: another row corrects it.

    An answer names the film by its content and the model by its identifier, and holds what was
    shown. It refers to no row, since results are removed (`hipedge prune`) and answers are not.
    """
    for statement in _FEEDBACK_SCHEMA:
        db.execute(statement)


_FEEDBACK_SCHEMA = (
    """
    create table feedback (
        id integer primary key,
        sha256 text not null,               -- of the film's content
        model_id text not null,
        rule_id text not null,
        hip integer,                        -- number on the film from 0; null: a hip not found
        side text not null check (side in ('right', 'left', 'unknown')),
        shown_category text,                -- the finding at that time; null: a hip not found
        shown_flagged integer,
        verdict text not null check (verdict in ('right', 'wrong', 'not_judged', 'image_unfit',
            'wrong_side', 'hip_missed')),
        category text,                      -- what the reader sees, for right and wrong
        blind integer not null,             -- the finding was hidden until this answer
        reader text not null,
        answered_at text not null,
        note text not null,
        corrects integer references feedback,
        check ((verdict in ('right', 'wrong')) = (category is not null)),
        check ((verdict = 'hip_missed') = (hip is null))
    ) strict
    """,
    # One first answer of each reader for each hip, and one correction of each answer.
    """
    create unique index feedback_first
        on feedback (sha256, model_id, coalesce(hip, -1), side, reader) where corrects is null
    """,
    "create unique index feedback_corrected on feedback (corrects) where corrects is not null",
    "create index feedback_by_film on feedback (sha256, id)",
    """
    create trigger feedback_stays before update on feedback
        begin select raise(abort, 'an answer is not changed'); end
    """,
    """
    create trigger feedback_is_kept before delete on feedback
        begin select raise(abort, 'an answer is not deleted'); end
    """,
)


@migrations()
def count_by_day(db: Database) -> None:
    """Add what the figures of a day are counted by: the day, and how long a film waited.

    The day is that of the clock on the wall, when and where the film was recorded. Hips' decisions
    have it too, since looking up the film of each of a year's flagged hips takes too long. How long
    films waited before is not known.
    """
    for statement in _DAYS:
        db.execute(statement)


_DAYS = (
    # When `hipedge watch` first saw this content here; null: another command found it.
    "alter table paths add column arrived_at text",
    "alter table files add column day text",
    "alter table files add column waited_s real",  # from its arrival; null: not screened, not known
    "alter table decisions add column day text",
    "update files set day = date(recorded_at, 'localtime')",
    """
    update decisions set day = (select files.day from hips join files on files.id = hips.file_id
        where hips.id = decisions.hip_id)
    """,
    "create index files_by_day on files (day, state, code)",
    "create index files_by_wait on files (day, waited_s) where waited_s is not null",
    "create index decisions_by_day on decisions (rule_id, day, flagged_for) where flagged",
    "create index feedback_by_time on feedback (answered_at)",
)


@migrations()
def link_patients(db: Database) -> None:
    """Add a pseudonym by which films of one patient are found, where a site has asked for it."""
    db.execute("alter table files add column patient text")  # HMAC, see `dicom.patient`
    db.execute("alter table files add column studied_on text")  # only with a pseudonym
    db.execute(
        "create index files_by_patient on files (patient, studied_on) where patient is not null"
    )


@migrations()
def name_contents_by_blake3(db: Database) -> None:
    """Make room for contents that are named by BLAKE3; those recorded before keep their SHA-256.

    A name is never changed: logs and studies, which are databases of their own, refer to it too.
    `sha256_names` has all old names, those of removed results (`hipedge prune`) as well.
    """
    for statement in _CONTENT_NAMES:
        db.execute(statement)


_CONTENT_NAMES = (
    "alter table files rename column sha256 to content_hash",
    "alter table feedback rename column sha256 to content_hash",
    """
    create table sha256_names (
        content_hash text primary key,
        blake3 text unique                  -- null: the content was not met since
    ) strict
    """,
    """
    insert into sha256_names (content_hash)
        select content_hash from files where content_hash is not null
        union select content_hash from feedback
    """,
    "create index sha256_unmet on sha256_names (content_hash) where blake3 is null",
)
