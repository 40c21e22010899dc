"""`hipedge receive` with real peers: what it accepts, keeps and acknowledges."""

import os
import signal
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom import AE

from hipedge.config import Settings
from hipedge.dicom.read import read
from hipedge.errors import ConfigError, InputError
from hipedge.network.contexts import STORAGE_CLASSES, TRANSFER_SYNTAXES
from hipedge.network.receive import receive
from tests.dicom.dicom_films import CR, DX, EXPLICIT, HTJ2K, LOSSLESS, after_file_meta, film
from tests.network.node import (
    AE_TITLE,
    LINE,
    dcmtk,
    read_pdu,
    read_status,
    store_pdus,
)
from tests.watch.clinic import paint

CT = "1.2.840.10008.5.1.4.1.1.2"


def send(node, *datasets, calling="STORESCU"):
    """Send data sets with pynetdicom, which offers each its own transfer syntax; the statuses."""
    entity = AE(calling)
    for one in datasets:
        entity.add_requested_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", node.port, ae_title=AE_TITLE)
    assert association.is_established
    try:
        return [association.send_c_store(one).Status for one in datasets]
    finally:
        association.release()


def data_set(path):
    data = path.read_bytes()
    return data[after_file_meta(data) :]


def test_an_echo_is_answered(node):
    assert node.echo().returncode == 0


def test_a_film_arrives_unchanged_under_a_random_name(node, film_file):
    done = node.store(film_file)
    assert done.returncode == 0, done.stderr
    (arrived,) = node.films
    assert data_set(arrived) == data_set(film_file)
    assert len(arrived.stem) == 32
    assert set(arrived.stem) <= set("0123456789abcdef")
    assert stat.S_IMODE(arrived.stat().st_mode) == 0o600
    assert node.arriving == []


def test_every_transfer_syntax_that_is_read_arrives_and_can_be_read(node, tmp_path):
    sent = {}
    for number, syntax in enumerate(LOSSLESS):
        path = tmp_path / "sent.dcm"
        path.write_bytes(film(paint("normal"), syntax, bits=12, SOPInstanceUID=f"1.2.{number}"))
        sent[f"1.2.{number}"] = syntax, read(path).overview.pixels
        assert send(node, dcmread(path)) == [0x0000], syntax
    for path in node.films:
        arrived = read(path)
        syntax, pixels = sent.pop(arrived.film.sop_instance_uid)
        assert dcmread(path).file_meta.TransferSyntaxUID == syntax
        np.testing.assert_array_equal(arrived.overview.pixels, pixels)
    assert sent == {}


def test_all_classes_and_syntaxes_that_are_read_are_negotiated_and_no_others(node):
    entity = AE()
    for sop_class in (*STORAGE_CLASSES, CT):
        entity.add_requested_context(sop_class, EXPLICIT)
    for syntax in (*TRANSFER_SYNTAXES, "1.2.840.10008.1.2.4.100"):  # MPEG-2
        entity.add_requested_context(DX, syntax)
    association = entity.associate("127.0.0.1", node.port, ae_title=AE_TITLE)
    accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
    association.release()
    assert {sop_class for sop_class, _ in accepted} == set(STORAGE_CLASSES)
    assert HTJ2K in {syntax for _, syntax in accepted}
    assert CR in STORAGE_CLASSES
    assert (CT, EXPLICIT) not in accepted


def test_a_class_that_is_not_negotiated_is_refused(node, tmp_path):
    path = tmp_path / "ct.dcm"
    path.write_bytes(film(paint("normal"), SOPClassUID=CT, Modality="CT"))
    assert node.store(path).returncode != 0
    assert node.films == []


def test_a_class_other_than_the_context_s_is_refused(node, film_file):
    with node.associate() as connection:
        for pdu in store_pdus(film_file.read_bytes(), "1.2.3", sop_class=CR):
            connection.sendall(pdu)
        assert read_status(connection) == 0x0122
        for pdu in store_pdus(film_file.read_bytes(), "1.2.3"):
            connection.sendall(pdu)
        assert read_status(connection) == 0x0000
    assert len(node.films) == 1


def test_only_the_titles_that_are_listed_may_send(new_node, film_file):
    node = new_node(receive_from=("XRAY_1", "PACS"))
    with node.running():
        assert node.store(film_file, options=("-aet", "XRAY_1")).returncode == 0
        assert node.echo("-aet", "PACS").returncode == 0
        assert node.store(film_file, options=("-aet", "XRAY_2")).returncode != 0
        assert node.store(film_file, options=("-aet", "XRAY_1"), called="OTHER").returncode != 0
    assert len(node.films) == 1
    assert 'rejected address="127.0.0.1" reason="calling_ae_title"' in node.log.read_text()
    assert 'reason="called_ae_title"' in node.log.read_text()


def test_tls_with_client_certificates(new_node, film_file, certificates):
    node = new_node(
        receive_tls_certificate=certificates.server,
        receive_tls_key=certificates.server_key,
        receive_tls_clients=certificates.authority,
    )

    def options(key, certificate):
        return ("+tls", key, certificate, "+cf", certificates.authority)

    with node.running():
        known = node.store(film_file, options=options(certificates.client_key, certificates.client))
        assert known.returncode == 0, known.stderr
        assert len(node.films) == 1
        unknown = options(certificates.stranger_key, certificates.stranger)
        assert node.store(film_file, options=unknown).returncode != 0
        nobody = ("+tla", "-ic")
        assert node.store(film_file, options=nobody).returncode != 0
        assert node.store(film_file).returncode != 0  # plain text
        assert node.echo(*options(certificates.client_key, certificates.client)).returncode == 0
    assert len(node.films) == 1
    assert "tls_refused" in node.log.read_text()


@pytest.mark.promise(19)
def test_a_film_that_is_arriving_at_sigterm_is_still_acknowledged(new_node, film_file):
    node = new_node()
    with node.running() as process, node.associate() as connection:
        first, *rest = store_pdus(film_file.read_bytes(), "1.2.3", piece=1000)
        connection.sendall(first + rest[0])
        node.wait(lambda: node.arriving)
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(b"".join(rest[1:]))
        assert read_status(connection) == 0x0000
        assert read_pdu(connection)[0] in (7, None)  # an abort, and the end
    assert len(node.films) == 1


@pytest.mark.promise(19)
def test_what_a_killed_process_left_incomplete_is_removed(new_node, film_file):
    node = new_node()
    with node.running(ends=False) as process, node.associate() as connection:
        connection.sendall(b"".join(store_pdus(film_file.read_bytes(), "1.2.3", piece=1000)[:4]))
        node.wait(lambda: node.arriving)
        process.kill()
        process.join()
    assert len(node.arriving) == 1
    with node.running():
        assert node.arriving == []
        assert node.films == []


def test_two_receivers_of_one_folder_are_refused(node):
    with pytest.raises(InputError, match="another"):
        receive(node.spool, Settings(receive_port=0))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"receive_host": "0.0.0.0"}, "receive_from"),
        ({"receive_host": "::"}, "receive_from"),
        ({"receive_tls_key": Path("key.pem")}, "receive_tls_certificate"),
        ({"receive_host": "no.such.host.invalid"}, "not known"),
        ({"receive_host": "192.0.2.1", "receive_from": ("PACS",)}, "cannot listen"),
        ({"receive_tls_certificate": Path("missing.pem")}, "missing.pem"),
    ],
)
def test_settings_with_which_it_does_not_start(tmp_path, settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        receive(tmp_path, Settings(receive_port=0, **settings))


def test_a_port_that_is_taken_is_reported(node, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ConfigError, match="cannot listen"):
        receive(other, Settings(receive_port=node.port))


def test_the_log_holds_events_and_no_text_from_outside(new_node, film_file, tmp_path):
    path = tmp_path / "doe.dcm"
    path.write_bytes(film(paint("normal"), PatientName="DOE^JANE", SOPInstanceUID="1.2.99.88"))
    node = new_node()
    with node.running():
        node.store(path, options=("-aet", "DOE_JANE"))
        node.store(path, options=("-aet", "DOE_JANE"), called="DOE_JANE")
        with node.associate() as connection:
            connection.sendall(b"\x04DOE_JANE" * 4)
    text = node.log.read_text()
    assert "received" in text
    assert "rejected" in text
    assert [line for line in text.splitlines() if not LINE.fullmatch(line)] == []
    assert "DOE" not in text
    assert "1.2.99.88" not in text


def test_dcmtk_echoscu_is_what_the_tests_think(node):
    refused = dcmtk("echoscu", "-to", 5, "-aec", "WRONG", "localhost", node.port)
    assert refused.returncode != 0
    assert "Called AE Title Not Recognized" in refused.stdout + refused.stderr
