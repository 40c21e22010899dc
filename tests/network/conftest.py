import pytest
import trustme

from tests.dicom.dicom_films import film
from tests.network.node import Node
from tests.watch.clinic import paint


@pytest.fixture
def new_node(tmp_path):
    """For a node with other settings."""
    return lambda **settings: Node(tmp_path, **settings)


@pytest.fixture
def node(new_node):
    node = new_node()
    with node.running():
        yield node


@pytest.fixture
def film_file(tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(film(paint("normal"), bits=12, SOPInstanceUID="1.2.826.0.1.3680043.9999.1"))
    return path


class Certificates:
    """An authority with the certificates of a server and of a client, as PEM files."""

    def __init__(self, folder):
        self.authority = folder / "authority.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        self.server, self.server_key = self._issue(authority, folder, "server")
        self.client, self.client_key = self._issue(authority, folder, "client")
        self.stranger, self.stranger_key = self._issue(trustme.CA(), folder, "stranger")

    def _issue(self, authority, folder, name):
        issued = authority.issue_cert("localhost", "127.0.0.1")
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)
