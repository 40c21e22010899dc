"""From a film in a watched folder to its results in PACS."""

from hipedge.types import Category
from tests.pacs import AE_TITLE
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
