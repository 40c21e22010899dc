"""How fast `hipedge serve` is: `python -m benchmarks.web [--cases 200000] [--readers 50]`.

Pages of the worklist of a large database; the time from opening a case to the first picture in
Chromium, by transfer syntax; and many readers at once. Everything is on the loopback interface.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sqlite3
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import httpx2
import numpy as np
import uvicorn

from benchmarks.environment import environment
from hipedge.config import Settings
from hipedge.dicom.read import load, read
from hipedge.errors import Code
from hipedge.model import open_model, packaged_model
from hipedge.model.card import card_id, card_json
from hipedge.pipeline.workers import Limits
from hipedge.rules.site_rule import site_rule
from hipedge.store.store import Store
from hipedge.types import ABNORMAL, Category, Mark, Refusal, Side
from hipedge.web import guard
from hipedge.web.app import create_app
from hipedge.web.decoder import CACHE_BYTES, Decoder
from hipedge.web.sessions import Sessions
from hipedge.web.site import Site
from tests.builders import film, scored_hip, screened
from tests.dicom import dicom_films
from tests.dicom.dicom_films import film as dicom_film

TOKEN = "a-token-for-the-benchmark"
LISTS = {
    "flagged": "/",
    "flagged, one category": "/?category=osteoarthritis",
    "flagged, answered": "/?answered=yes",
    "flagged, page 100": None,
    "not read": "/?list=not_read",
    "look again": "/?list=marked",
    "all films": "/?list=all",
    "search by UID": "/search?q=1.2.77",
    "dashboard, 30 days": "/dashboard?days=30",
    "dashboard, 365 days": "/dashboard?days=365",
}
SYNTAXES = {
    "uncompressed": dicom_films.EXPLICIT,
    "RLE": dicom_films.RLE,
    "JPEG lossless": dicom_films.JPEG_LOSSLESS_SV1,
    "JPEG-LS": dicom_films.JPEG_LS,
    "JPEG 2000": dicom_films.JPEG_2000_LOSSLESS,
    "HTJ2K": dicom_films.HTJ2K_LOSSLESS,
}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]  # fmt: skip
# Recorded by hipedge itself; the others are copies of them under other names.
RECORDED = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--json", type=Path, help="write the results there, too")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    guard.REQUESTS = (1_000_000, 1e-6)  # all readers of a benchmark have one address
    results: dict[str, object] = {"environment": environment(), "load": os.getloadavg()}
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.db"
        make_database(large, options.cases)
        with serving(Settings(db=large)) as address:
            results["cases"] = options.cases
            results["list_ms"] = time_lists(address, options.repeats)
        films = Path(folder) / "films.db"
        sizes = make_films(films, Path(folder))
        # Enough for what one page asks for, and not for what it asked for five pages ago.
        with serving(Settings(db=films), cache_bytes=8 << 20) as address:
            results["film_mb"] = sizes
            results["first_picture_ms"] = time_first_pictures(address, options.repeats)
        with serving(Settings(db=films)) as address:
            results["readers"] = time_readers(address, options.readers, len(sizes))
    text = json.dumps(results, indent=2) + "\n"
    print(text, end="")
    if options.json is not None:
        options.json.write_text(text)


def start_run(store):
    card = open_model(packaged_model()).card
    run = store.start_run(
        model_id=card_id(card), model_name=card.name, model_status=card.status.value,
        card=card_json(card).decode(), backend="benchmark", backend_reason="", versions={},
    )  # fmt: skip
    return run, site_rule(card, Settings())


def make_database(path, cases):
    """Record some films as a site has them, and copy their rows under other names.

    The copies are spread over the days of a year.
    """
    rng = np.random.default_rng(1)
    with Store(path) as store:
        run, rule = start_run(store)
        outcomes = []
        for n in range(RECORDED):
            one = film(f"f{n}", pixels=f"p{n}", uid=f"1.2.{n}", study_instance_uid=f"1.3.{n // 2}")
            kind = rng.random()
            if kind < 0.03:
                refusal = Refusal(
                    one.source, Code.DECODE_FAILED, content_hash=one.content_hash, film=one
                )
                outcomes.append(refusal)
                continue
            sick = ABNORMAL[int(rng.integers(len(ABNORMAL)))]
            category = Category.NORMAL if rng.random() < 0.75 else sick
            hips = (
                scored_hip(category, Side.RIGHT),
                scored_hip(Category.NORMAL, Side.LEFT),
            )
            marks = [Mark.SIDE_UNCLEAR] if kind < 0.05 else []
            outcomes.append(screened(one, *hips, rule=rule, marks=marks))
        store.record(run, outcomes, rule)
    with closing(sqlite3.connect(path)) as db:
        columns = {table: [row[1] for row in db.execute(f"pragma table_info({table})")]
                   for table in ("files", "hips", "decisions", "paths")}  # fmt: skip
        for copy in range(1, cases // RECORDED):
            shift = copy * 10 * RECORDED
            # The films of a copy lie on ten days in a row, and each film's hips on its day.
            back = f"'-' || ({10 * copy % 365} + {{}} % 10) || ' days'"
            day = "date('now', " + back.format("{}") + ")"
            changed = {
                "files": {"id": f"id + {shift}", "content_hash": f"content_hash || '-{copy}'",
                          "path": f"'/in{copy}' || path", "day": day.format("id"),
                          "waited_s": "iif(state = 'screened', 2 + id % 97, null)",
                          "sop_instance_uid": f"sop_instance_uid || '.{copy}'",
                          "study_instance_uid": f"study_instance_uid || '.{copy}'"},
                "hips": {"id": f"id + {shift}", "file_id": f"file_id + {shift}"},
                "decisions": {"id": f"id + {shift}", "hip_id": f"hip_id + {shift}",
                              "day": day.format("(select file_id from hips where id = hip_id)")},
                "paths": {"path": f"'/in{copy}' || path", "file_id": f"file_id + {shift}"},
            }  # fmt: skip
            for table, names in columns.items():
                values = ", ".join(changed[table].get(name, name) for name in names)
                key = {"files": "id", "hips": "id", "decisions": "id"}.get(table)
                first = f"{key} < {10 * RECORDED}" if key else f"file_id < {10 * RECORDED}"
                db.execute(f"insert into {table} select {values} from {table} where {first}")
        db.commit()


def make_films(db, folder):
    """Record the same film of 12 megapixels and 12 bits in each syntax; return sizes in MB."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:3500, 0:3400]
    smooth = 1500 + 900 * np.sin(x / 300) * np.cos(y / 250)
    values = np.clip(smooth + rng.normal(0, 60, smooth.shape), 0, 4095).astype(np.uint16)
    sizes = {}
    with Store(db) as store:
        run, rule = start_run(store)
        for name, syntax in SYNTAXES.items():
            path = folder / f"{name.replace(' ', '-')}.dcm"
            path.write_bytes(
                dicom_film(values, syntax, bits=12, WindowCenter=1500, WindowWidth=3000)
            )
            sizes[name] = round(path.stat().st_size / 1e6, 1)
            hips = (scored_hip(Category.FEMORAL_NECK_FRACTURE), scored_hip(side=Side.LEFT))
            store.record(run, [screened(read(path, load(path)).film, *hips, rule=rule)], rule)
    return sizes


@contextmanager
def serving(settings, cache_bytes=CACHE_BYTES):
    """Serve a site on a free port; yield its address."""
    sessions = Sessions(secure=False, idle=timedelta(hours=1), link_token=TOKEN, owner="benchmark")
    with Decoder(2, Limits(), cache_bytes) as decoder:
        app = create_app(Site(settings, sessions, decoder), names=None, secure=False)
        config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_level="error")
        with closing(socket.socket()) as listening:
            listening.bind(("127.0.0.1", 0))
            server = uvicorn.Server(config)
            thread = threading.Thread(
                target=server.run, kwargs={"sockets": [listening]}, daemon=True
            )
            thread.start()
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            server.should_exit = True
            thread.join()


@contextmanager
def logged_in(address):
    with httpx2.Client(base_url=address, timeout=60, follow_redirects=True) as client:
        client.get(f"/login?token={TOKEN}").raise_for_status()
        yield client


def time_lists(address, repeats):
    """Return the median and longest time of each list's page, and its CPU time, in ms.

    The CPU time is that of server and client together, and does not depend on what else runs.
    """
    found = {}
    with logged_in(address) as client:
        start = time.perf_counter()
        client.get("/").raise_for_status()
        found["first page after the start"] = round(1e3 * (time.perf_counter() - start), 1)
        for name, path in LISTS.items():
            path = path or page_number(client, 100)
            times, cpu = [], []
            for _ in range(repeats):
                start, cpu_start = time.perf_counter(), time.process_time()
                client.get(path).raise_for_status()
                times.append(1e3 * (time.perf_counter() - start))
                cpu.append(1e3 * (time.process_time() - cpu_start))
            found[name] = [round(value, 1) for value in (*middle(times), statistics.median(cpu))]
    return found


def middle(times):
    """Return the median and the longest of some times."""
    return statistics.median(times), max(times)


def page_number(client, number):
    """Return the address of a later page, by following the links to it."""
    address = "/rows"
    for _ in range(number - 1):
        following = client.get(address).text.rpartition("/?")[2].partition('"')[0]
        address = "/rows?" + following.replace("&amp;", "&")
    return address.replace("/rows?", "/?")


def time_first_pictures(address, repeats):
    """Return the median time from navigation to the first picture in Chromium, in ms."""
    from playwright.sync_api import sync_playwright

    found = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000}, base_url=address)
        page.goto(f"/login?token={TOKEN}")
        times: dict[str, list[float]] = {name: [] for name in SYNTAXES}
        # In turns: a decoding process keeps the film that it decoded last.
        for _ in range(repeats):
            for number, name in enumerate(SYNTAXES, 1):
                page.goto(f"/case/{number}")
                page.wait_for_selector("canvas[data-state=ready]")
                mark = "performance.getEntriesByName('first-picture')[0].startTime"
                times[name].append(page.evaluate(mark))
        for name, each in times.items():
            found[name] = [round(value) for value in middle(each)]
        browser.close()
    return found


def time_readers(address, readers, films):
    """Return times of readers who open list, case and film at once, ten times each."""
    times: dict[str, list[float]] = {"list": [], "case": [], "film": []}

    def read_on(reader):
        with logged_in(address) as client:
            for turn in range(10):
                case = (reader + turn) % films + 1
                for kind, path in (("list", "/"), ("case", f"/case/{case}"),
                                   ("film", f"/film/{case}/2")):  # fmt: skip
                    start = time.perf_counter()
                    client.get(path).raise_for_status()
                    times[kind].append(1e3 * (time.perf_counter() - start))

    start = time.perf_counter()
    with ThreadPoolExecutor(readers) as threads:
        list(threads.map(read_on, range(readers)))
    elapsed = time.perf_counter() - start
    done = sum(map(len, times.values()))
    return {
        "readers": readers,
        "requests_per_s": round(done / elapsed, 1),
        **{
            f"{kind}_ms": [round(statistics.median(each)), round(np.percentile(each, 95))]
            for kind, each in times.items()
        },
    }


if __name__ == "__main__":
    main()
