"""From a film in a watched folder to its results in PACS."""

import urllib.request

import pytest

from hipedge.types import Category
from tests.pacs import AE_TITLE, Orthanc
from tests.watch.clinic import dicom

SC, SR = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.34"
DELIVERED = "select count(*) from outbox where channel = 'pacs' and delivered_at is not null"


def test_a_flagged_film_has_its_picture_and_its_report_in_pacs(new_clinic, orthanc):
    clinic = new_clinic(pacs_host="127.0.0.1", pacs_port=orthanc.dicom_port, pacs_ae_title=AE_TITLE)
    clinic.drop("1.dcm", dicom(1, Category.FEMORAL_NECK_FRACTURE))
    clinic.drop("2.dcm", dicom(2, Category.NORMAL))
    with clinic.service():
        clinic.wait_for(2)
        clinic.wait(lambda: orthanc.classes() == [SC, SR])
        clinic.wait(lambda: clinic.rows(DELIVERED) == [(1,)])


@pytest.mark.promise(21)
def test_films_that_were_moved_while_pacs_was_down_have_their_results_when_it_is_up(
    clinic_with_done_dir, tmp_path, on_loopback
):
    server = Orthanc(tmp_path / "orthanc", on_loopback)
    clinic, done = clinic_with_done_dir(
        pacs_host="127.0.0.1", pacs_port=server.dicom_port, pacs_ae_title=AE_TITLE
    )
    clinic.drop("1.dcm", dicom(1, Category.FEMORAL_NECK_FRACTURE))
    with clinic.service():
        clinic.wait(lambda: (done / "1.dcm").exists())
        clinic.wait(lambda: clinic.rows("select name from alarms") == [("results",)])
        with server.up():
            clinic.wait(lambda: clinic.rows(DELIVERED) == [(1,)])
            assert server.classes() == [SC, SR]
            clinic.wait(lambda: clinic.rows("select name from alarms") == [])
    assert "receiver_failed" in clinic.log.read_text()
    assert "HIP" not in clinic.log.read_text()


@pytest.mark.promise(22)
def test_results_are_never_screened_although_pacs_sends_them_back(new_clinic, orthanc):
    clinic = new_clinic(
        pacs_host="127.0.0.1",
        pacs_port=orthanc.dicom_port,
        pacs_ae_title=AE_TITLE,
        patience_s=0.5,  # a file without pixels, or that ends black, may be incomplete
    )
    clinic.drop("1.dcm", dicom(1, Category.FEMORAL_NECK_FRACTURE))
    with clinic.service():
        clinic.wait(lambda: clinic.rows(DELIVERED) == [(1,)])
        for number, name in enumerate(orthanc.get("/instances")):
            with urllib.request.urlopen(f"{orthanc.url}/instances/{name}/file") as answer:
                clinic.drop(f"back{number}.dcm", answer.read())
        clinic.wait_for(3)
        outcomes = clinic.outcomes()
    assert {outcomes["back0.dcm"], outcomes["back1.dcm"]} == {"own_result"}
    assert clinic.rows(DELIVERED) == [(1,)]
