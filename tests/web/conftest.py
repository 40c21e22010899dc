"""A site with a database, films on disk, users and a server, as a browser or a client meets it."""

import re
import shutil
import socket
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from argon2 import PasswordHasher
from PIL import Image
from starlette.testclient import TestClient

from hipedge.config import Settings
from hipedge.dicom.read import load, read
from hipedge.model.card import card_id, card_json
from hipedge.pipeline.workers import Limits
from hipedge.rules.site_rule import site_rule
from hipedge.store.accounts import Accounts, Role
from hipedge.store.connection import utc_now
from hipedge.store.store import Store
from hipedge.types import Box, Category, Hip, ScoredHip, Side
from hipedge.web.app import create_app
from hipedge.web.decoder import Decoder
from hipedge.web.sessions import Sessions
from hipedge.web.site import Site
from tests.builders import scored_hip, screened

PASSWORD = "gull ladder copper 7 window"
ROLES = {"vera": Role.VIEWER, "rita": Role.READER, "robert": Role.READER, "anna": Role.ADMIN}


@pytest.fixture(scope="session")
def databases(tmp_path_factory):
    """A folder with a new database, and one of users, which each test gets a copy of.

    The hashes of the passwords are quicker to check than those of real users.
    """
    folder = tmp_path_factory.mktemp("site")
    settings = Settings(db=folder / "hipedge.db")
    quick = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    with Store(settings.db):
        pass
    with Accounts(settings.web_database) as accounts:
        for name, role in ROLES.items():
            accounts.add_user(name, role, quick)
    return folder


@pytest.fixture(scope="session")
def decoder():
    with Decoder(1, Limits(cpu_s=20, wall_s=20)) as decoder:
        yield decoder


class Place:
    """A site in a folder: records outcomes, and serves itself to clients."""

    def __init__(self, folder, card, decoder):
        self.folder, self.card, self.decoder = folder, card, decoder
        self.settings = Settings(db=folder / "hipedge.db")

    def record(self, *outcomes, card=None):
        card = card or self.card
        with Store(self.settings.db) as store:
            run = store.start_run(
                model_id=card_id(card),
                model_name=card.name,
                model_status=card.status.value,
                card=card_json(card).decode(),
                backend="onnxruntime=1.0",
                backend_reason="asked for",
                versions={},
            )
            store.record(run, outcomes, site_rule(card, self.settings))

    def film(self, name="film", shape=(240, 200), **values):
        """Write a picture with a bright band in its upper half, and return its `Film`."""
        path = self.folder / f"{name}.png"
        pixels = np.full(shape, 40, np.uint8)
        pixels[shape[0] // 8 : shape[0] // 2] = 200
        # Films differ in a pixel, so that none is the other's duplicate.
        pixels[0, 0] = sum(name.encode()) % 256
        Image.fromarray(pixels).save(path)
        return self.described(path, **values)

    def described(self, path, **values):
        film = read(path, load(path)).film
        return replace(film, **values)

    def fracture(self, name="fracture", **values):
        """Record a film with an urgent right hip and a normal left one."""
        film = self.film(name, **values)
        height, width = film.shape
        right = placed(
            scored_hip(Category.FEMORAL_NECK_FRACTURE, Side.RIGHT), 5, 60, width // 2, height - 40
        )
        left = placed(
            scored_hip(Category.NORMAL, Side.LEFT), width // 2, 60, width - 5, height - 40
        )
        rule = site_rule(self.card, self.settings)
        self.record(screened(film, right, left, rule=rule))
        return film

    def app(
        self, *, link_token=None, send_timeout_s=30.0, idle=timedelta(minutes=30), clock=utc_now
    ):
        sessions = Sessions(secure=False, idle=idle, link_token=link_token, owner="olga")
        site = Site(self.settings, sessions, self.decoder, clock)
        names = ("testserver", "127.0.0.1", "localhost")
        return create_app(site, names=names, secure=False, send_timeout_s=send_timeout_s)

    def client(self, user=None, app=None):
        """Return a client, logged in as a user."""
        client = TestClient(app or self.app(), follow_redirects=False)
        if user is not None:
            answer = client.post("/login", data={"user": user, "password": PASSWORD})
            assert answer.status_code == 303, answer.text
        return client

    def set(self, **settings):
        self.settings = replace(self.settings, **settings)

    def audit(self):
        with Accounts(self.settings.web_database) as accounts:
            return [entry for _, entry in accounts.audit()]


def placed(scored, x0, y0, x1, y1):
    hip = scored.hip
    at = Hip(hip.side, ((x0 + x1) / 2, (y0 + y1) / 2), Box(x0, y0, x1, y1), 0.9, hip.mirrored)
    return ScoredHip(at, scored.scores)


@pytest.fixture
def place(tmp_path, databases, reference_model, decoder):
    shutil.copytree(databases, tmp_path, dirs_exist_ok=True)
    return Place(tmp_path, reference_model.card, decoder)


def form_of(page, hip=0):
    """Return the hidden fields of a page's form about a hip."""
    forms = re.findall(r'<form class="answer".*?</form>', page, re.DOTALL)
    for form in forms:
        fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
        if fields.get("hip", "missed") == str(hip):
            return fields
    raise AssertionError(f"no form about hip {hip}")


def answer(client, case, hip=0, **values):
    """Fill in the form about a hip on the page of a case; return the response."""
    page = client.get(f"/case/{case}").text
    return client.post(f"/case/{case}/answer", data=form_of(page, hip) | values)


@contextmanager
def served(app):
    """Run an application in uvicorn on a free port; yield its address."""
    import uvicorn

    config = uvicorn.Config(
        app, port=0, http="h11", ws="none", lifespan="off", log_level="error",
        limit_concurrency=200, timeout_graceful_shutdown=1,
    )  # fmt: skip
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)
