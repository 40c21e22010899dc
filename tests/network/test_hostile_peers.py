"""What a peer can send to `hipedge receive` to harm it, and that it does not."""

import os
import random
import socket
import ssl
import struct
import threading
import time
import warnings

import pytest

from hipedge.network import scp
from hipedge.network.spool import Spool, SpooledFilm
from tests.dicom.dicom_films import DX, film
from tests.network.node import (
    ABORT,
    COMMAND,
    DATA,
    LAST,
    LINE,
    REJECTED,
    Node,
    command,
    echo_command,
    fragment,
    limit_file_size,
    pdu,
    read_pdu,
    read_status,
    request,
    store_command,
    store_pdus,
    uid,
    us,
)
from tests.watch import faults
from tests.watch.clinic import ROOT_UID, Clinic, dicom, paint

MANY = 1 << 26


@pytest.fixture(scope="module")
def lasting_node(tmp_path_factory):
    """A node that lasts for many tests, as hostile peers come one after the other."""
    node = Node(tmp_path_factory.mktemp("node"))
    with node.running():
        yield node


def send_until_refused(connection, data):
    """Send data as long as the peer takes it."""
    try:
        for _ in range(MANY // len(data)):
            connection.sendall(data)
    except OSError:
        return True
    return False


@pytest.mark.promise(20)
@pytest.mark.parametrize("kind", [DATA, 1, 2, 6])
def test_a_pdu_that_claims_4_gb_is_refused_before_memory_is_taken_for_it(lasting_node, kind):
    node, claim = lasting_node, f"claimed={0xFFFFFFFF}"
    before, claims = node.memory_kb(), node.log.read_text().count(claim)
    with node.associate() if kind == DATA else node.connect() as connection:
        connection.sendall(struct.pack(">BxI", kind, 0xFFFFFFFF))
        assert send_until_refused(connection, bytes(1 << 20))
    assert node.memory_kb() - before < 16 << 10
    assert node.log.read_text().count(claim) == claims + 1
    assert node.echo().returncode == 0


def test_the_peer_is_told_that_its_pdu_is_too_long(lasting_node):
    node = lasting_node
    with node.associate() as connection:
        connection.sendall(struct.pack(">BxI", DATA, 131_073))
        assert read_pdu(connection) == (ABORT, bytes([0, 0, 2, 6]))


@pytest.mark.promise(20)
def test_a_large_film_takes_no_memory(node, tmp_path):
    path = tmp_path / "large.dcm"
    size = 100 << 20
    path.write_bytes(film(paint("normal"), bits=12, pixel_data=bytes(size)))
    before = node.memory_kb()
    assert node.store(path).returncode == 0
    assert node.films[0].stat().st_size > size
    assert node.memory_kb() - before < 16 << 10


def accept_at_most(film_bytes, all_bytes):
    scp.MAX_FILE_BYTES, scp.ENDLESS_BYTES = film_bytes, all_bytes


@pytest.mark.promise(20)
def test_a_film_that_is_too_large_is_refused_and_one_without_end_is_cut_off(new_node, tmp_path):
    path = tmp_path / "large.dcm"
    path.write_bytes(film(paint("normal"), bits=12, pixel_data=bytes(2 << 20)))
    node = new_node()
    with node.running(accept_at_most, 1 << 20, 4 << 20):
        with node.associate() as connection:
            connection.sendall(b"".join(store_pdus(path.read_bytes(), "1.2.3")))
            assert read_status(connection) == 0xC000
            connection.sendall(b"".join(store_pdus(path.read_bytes(), "1.2.3")[:-1]))
            assert send_until_refused(connection, fragment(3, 0, bytes(16_000)) * 10) or (
                read_pdu(connection)[0] == ABORT
            )
        node.wait(lambda: not node.arriving)
    assert node.films == []
    assert 'status="0xC000"' in node.log.read_text()
    assert "message_refused" in node.log.read_text()


@pytest.mark.promise(20)
@pytest.mark.parametrize("ends", [True, False])
def test_half_a_c_store_leaves_nothing(new_node, film_file, ends):
    node = new_node(receive_idle_s=2.0)
    with node.running():
        connection = node.associate()
        pdus = store_pdus(film_file.read_bytes(), "1.2.3", piece=1000)
        connection.sendall(b"".join(pdus[:4]))
        node.wait(lambda: node.arriving)
        if ends:
            connection.close()
        else:  # silent within a PDU
            connection.sendall(pdus[4][:100])
        node.wait(lambda: not node.arriving)
        assert node.echo().returncode == 0
        connection.close()
    assert node.films == []


@pytest.mark.promise(20)
def test_a_flood_of_associations_is_capped_and_passes(new_node):
    node = new_node(receive_associations=4, receive_idle_s=2.0)
    with node.running():
        threads, before = node.threads(), node.memory_kb()
        held = [node.connect() for _ in range(300)]
        time.sleep(0.5)
        assert node.threads() - threads <= 2 * 4 * 3  # connections of an address, threads of each
        assert node.memory_kb() - before < 16 << 10
        node.wait(lambda: "connections_refused count=" in node.log.read_text())
        node.wait(lambda: node.echo().returncode == 0)  # the silent ones were closed
        for connection in held:
            connection.close()


def test_more_associations_than_allowed_are_rejected_as_a_passing_state(new_node):
    node = new_node(receive_associations=3)
    with node.running(), node.associate(), node.associate():
        with node.associate(), node.connect() as fourth:
            fourth.sendall(request())
            assert read_pdu(fourth) == (REJECTED, bytes([0, 2, 3, 2]))  # local limit exceeded
        node.wait(lambda: node.echo().returncode == 0)
    assert 'reason="associations"' in node.log.read_text()


def test_connections_come_no_faster_than_allowed(new_node):
    node = new_node(receive_connections_per_s=0.05)
    with node.running():
        answers = []
        for _ in range(5):
            with node.connect() as connection:
                connection.sendall(request(called="OTHER"))
                answers.append(read_pdu(connection)[0])
        assert answers == [REJECTED, None, None, None, None]


@pytest.mark.promise(20)
def test_plain_text_and_silence_on_the_port_of_tls_hold_nobody_up(
    new_node, film_file, certificates
):
    node = new_node(
        receive_tls_certificate=certificates.server,
        receive_tls_key=certificates.server_key,
        receive_idle_s=40.0,
    )
    with node.running():
        silent = node.connect()
        plain = node.connect()
        plain.sendall(request())
        assert read_pdu(plain)[0] != 2  # no association; an alert of TLS, or the end
        options = (
            "+tls", certificates.client_key, certificates.client, "+cf", certificates.authority,
        )  # fmt: skip
        begin = time.monotonic()
        assert node.store(film_file, options=options).returncode == 0
        assert time.monotonic() - begin < 30
        silent.close()
        plain.close()
    assert 'tls_refused address="127.0.0.1"' in node.log.read_text()


def test_tls_1_1_is_refused(new_node, certificates):
    node = new_node(
        receive_tls_certificate=certificates.server, receive_tls_key=certificates.server_key
    )
    with node.running():
        for version, is_good in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
            context = ssl.create_default_context(cafile=certificates.authority)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # 1.1 is deprecated
                context.minimum_version = context.maximum_version = version
            context.set_ciphers("ALL:@SECLEVEL=0")
            with node.connect() as connection:
                if is_good:
                    context.wrap_socket(connection, server_hostname="localhost").close()
                else:
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        context.wrap_socket(connection, server_hostname="localhost")


@pytest.mark.promise(19)
def test_the_same_instance_ten_times_at_once_is_acknowledged_and_screened_once(
    new_node, untrained_model, tmp_path
):
    folder = tmp_path / "clinic"
    folder.mkdir()
    clinic = Clinic(folder, untrained_model.path)
    node = new_node()
    clinic.incoming = node.spool
    path = tmp_path / "film.dcm"
    path.write_bytes(dicom(1))
    with node.running():
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(node.store(path).returncode))
            for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [0] * 10
        assert len(node.films) == 10
        with clinic.service():
            clinic.wait_for(10)
    assert clinic.rows("select state, count(*) from files group by state") == [("screened", 1)]
    assert clinic.rows("select count(*) from hips") == [(1,)]


@pytest.mark.promise(20)
@pytest.mark.parametrize("instance", ["../../x", "/etc/passwd", "a\\b", "1.2.3;rm -rf", "x" * 64])
def test_no_uid_becomes_part_of_a_path(node, tmp_path, instance):
    before = {path for path in tmp_path.rglob("*") if path.parent != node.spool}
    data = film(paint("normal"), bits=12, StudyInstanceUID=instance)
    with node.associate() as connection:
        connection.sendall(b"".join(store_pdus(data, instance)))
        assert read_status(connection) == 0
    (arrived,) = node.films
    assert len(arrived.stem) == 32
    assert {path for path in tmp_path.rglob("*") if path.parent != node.spool} == before


@pytest.mark.promise(20)
def test_a_uid_of_10000_characters_ends_its_association_alone(node, film_file):
    with node.associate() as other, node.associate() as connection:
        connection.sendall(b"".join(store_pdus(film_file.read_bytes(), "1." * 5000)))
        assert read_pdu(connection)[0] == ABORT
        other.sendall(b"".join(store_pdus(film_file.read_bytes(), "1.2.3")))
        assert read_status(other) == 0
    assert len(node.films) == 1
    node.wait(lambda: not node.arriving)


def test_a_long_uid_within_a_film_is_for_watch_to_judge(node):
    data = film(paint("normal"), bits=12, StudyInstanceUID="1" * 10_000)
    with node.associate() as connection:
        connection.sendall(b"".join(store_pdus(data, "1.2.3")))
        assert read_status(connection) == 0
    assert len(node.films) == 1


@pytest.mark.promise(20)
def test_a_command_without_end_takes_no_memory(new_node):
    node = new_node(receive_idle_s=2.0)
    with node.running():
        before = node.memory_kb()
        with node.associate() as connection:
            data = fragment(1, COMMAND, bytes(16_000)) * 10
            node.wait(lambda: send_until_refused(connection, data))
        assert node.memory_kb() - before < 16 << 10
        assert node.echo().returncode == 0


@pytest.mark.promise(20)
@pytest.mark.parametrize(
    "pdus",
    [
        fragment(3, 0, bytes(1000)),  # data without a command
        fragment(1, LAST | COMMAND, echo_command()) * 1000,  # without waiting for responses
        fragment(1, LAST | COMMAND, b"nonsense"),
        fragment(99, LAST | COMMAND, store_command("1.2.3")) + fragment(99, LAST, bytes(100)),
        fragment(1, LAST | COMMAND, command(us(0x0100, 0x0020), us(0x0800, 1)))
        + fragment(1, 0, bytes(99)),  # C-FIND
        fragment(1, LAST | COMMAND, command(us(0x0100, 0x7777), us(0x0800, 0x0101))),
        fragment(3, LAST | COMMAND, command(uid(2, DX), us(0x0100, 1), us(0x0800, 1)))
        + fragment(3, LAST, bytes(9)),  # without an instance
        pdu(DATA, bytes(1000)),
        pdu(DATA, b"\xff" * 1000),
        pdu(99, bytes(10)),
        pdu(2, bytes(100)),
        request(),
    ],
)  # fmt: skip
def test_messages_that_break_the_protocol_end_their_association_alone(lasting_node, pdus):
    node = lasting_node
    with node.associate() as other, node.associate() as connection:
        connection.settimeout(10)
        try:
            connection.sendall(pdus)
            while read_pdu(connection)[0] not in (ABORT, None):
                pass
        except ConnectionError:
            pass
        other.sendall(fragment(1, LAST | COMMAND, echo_command()))
        assert read_status(other) == 0
    assert node.films == []
    node.wait(lambda: not node.arriving)


def test_a_c_store_without_a_film_is_refused(lasting_node):
    node = lasting_node
    with node.associate() as connection:
        empty = store_command("1.2.3").replace(
            struct.pack("<HHIH", 0, 0x0800, 2, 1), struct.pack("<HHIH", 0, 0x0800, 2, 0x0101)
        )
        connection.sendall(fragment(3, LAST | COMMAND, empty))
        kind, _ = read_pdu(connection)
        assert kind in (DATA, ABORT)
    assert node.films == []


@pytest.mark.promise(20)
def test_random_bytes_end_nothing_but_their_own_connection(new_node):
    node = new_node(receive_idle_s=2.0)
    rng = random.Random(5)
    associated = b"".join(store_pdus(film(paint("normal"), bits=12), "1.2.3"))
    with node.running() as process:
        for turn in range(60):
            data = bytearray(associated if turn % 2 else request())
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
            with node.associate() if turn % 2 else node.connect() as connection:
                try:
                    connection.sendall(bytes(data[: rng.randint(1, len(data))]))
                    connection.shutdown(socket.SHUT_WR)
                    while read_pdu(connection)[0] is not None:
                        pass
                except OSError:
                    continue
        assert process.is_alive()
        assert node.echo().returncode == 0
        node.wait(lambda: not node.arriving)
    assert [one for one in node.log.read_text().splitlines() if not LINE.fullmatch(one)] == []


@pytest.mark.promise(20)
def test_a_full_disk_is_answered_as_such_and_leaves_nothing(new_node, film_file, tmp_path):
    large = tmp_path / "large.dcm"
    large.write_bytes(film(paint("normal"), bits=12, pixel_data=bytes(1 << 20)))
    node = new_node()
    with node.running(limit_file_size, 1 << 19):
        refused = node.store(large)
        assert refused.returncode != 0
        assert "Refused: OutOfResources" in refused.stderr  # 0xA7xx
        assert node.films == node.arriving == []
        assert node.store(film_file).returncode == 0
    assert len(node.films) == 1
    assert "spool_failed" in node.log.read_text()


def test_films_are_refused_while_less_than_the_reserve_is_free(new_node, film_file):
    node = new_node(reserve_mb=1 << 40)
    with node.running(), node.associate() as connection:
        connection.sendall(b"".join(store_pdus(film_file.read_bytes(), "1.2.3")))
        assert read_status(connection) == 0xA700
    assert node.films == []


def fail_to_sync():
    faults.before(os, "fsync", break_disk)


def break_disk():
    raise OSError(5, "Input/output error")


def test_a_broken_disk_is_answered_as_a_failure_and_leaves_nothing(new_node, film_file):
    node = new_node()
    with node.running(fail_to_sync), node.associate() as connection:
        for _ in range(2):
            connection.sendall(b"".join(store_pdus(film_file.read_bytes(), "1.2.3")))
            assert read_status(connection) == 0x0110
    assert node.films == node.arriving == []


POINTS = {
    "before the film is begun": (faults.before, Spool, "begin"),
    "when its first bytes are written": (faults.after, SpooledFilm, "write"),
    "before it is on the disk": (faults.before, SpooledFilm, "keep"),
    "when its content is on the disk": (faults.after, os, "fsync"),
    "before it is renamed": (faults.before, os, "rename"),
    "when it is renamed": (faults.after, os, "rename"),
    "before it is acknowledged": (faults.after, SpooledFilm, "keep"),
}


def kill_at(point):
    put, owner, name = POINTS[point]
    put(owner, name, faults.die)


@pytest.mark.promise(19)
@pytest.mark.slow  # test_chain.py kills it at four points in a run of all tests
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_no_film_that_was_acknowledged_is_lost_or_partial(
    new_node, tmp_path, point, untrained_model
):
    folder = tmp_path / "clinic"
    folder.mkdir()
    clinic = Clinic(folder, untrained_model.path)
    node = new_node()
    clinic.incoming = node.spool
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(dicom(number))
    acknowledged = set()
    with node.running(ends=False):
        acknowledged |= {0} if node.store(files[0]).returncode == 0 else set()
    with node.running(kill_at, point, ends=False) as process:
        acknowledged |= {1} if node.store(files[1]).returncode == 0 else set()
        process.join(20)
        assert process.exitcode == -9
    with node.running():
        assert node.arriving == []
        for number in (1, 2):  # the peer repeats what was not acknowledged
            assert node.store(files[number]).returncode == 0
    assert acknowledged == {0}
    with clinic.service():
        clinic.wait_for(len(node.films))
    screened = "select sop_instance_uid from files where state = 'screened' order by 1"
    assert clinic.rows(screened) == [(f"{ROOT_UID}.{number}",) for number in range(3)]
    assert clinic.rows("select count(*) from files where state <> 'screened'") == [(0,)]
