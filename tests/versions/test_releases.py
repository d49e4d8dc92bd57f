import http.server
import json
import threading

import pytest
from stub_index import tell, write_wheel

from harness.errors import EnvironmentUnavailable, RequirementError
from harness.versions.installer import PipSettings
from harness.versions.releases import releases_of

PAGE = """<!DOCTYPE html><html><body>
<a href="../../port-1.0.tar.gz#sha256=00">port-1.0.tar.gz</a>
<a href="../../port-1.10-py3-none-any.whl">a wheel</a>
<a href="../../port-1.9-py3-none-any.whl">a wheel</a>
<a href="../../port-2.0-py3-none-any.whl" data-yanked="broken">yanked</a>
<a href="../../port-2.1-py3-none-any.whl" data-yanked="">yanked</a>
<a href="../../port-3.0rc1-py3-none-any.whl">early</a>
<a href="../../port-4.0-py3-none-any.whl" data-requires-python="&gt;=99">later Pythons</a>
<a href="../../port-5.0.exe">no file of a release</a>
<a href="../../porter-6.0-py3-none-any.whl">another package</a>
</body></html>"""


def words(releases):
    return [str(release) for release in releases]


@pytest.fixture
def local(tmp_path, monkeypatch):
    (tmp_path / "simple" / "port").mkdir(parents=True)
    (tmp_path / "simple" / "port" / "index.html").write_text(PAGE)
    settings = PipSettings(index_url=f"file://{tmp_path}/simple")
    tell(monkeypatch, settings)
    return settings


@pytest.mark.usefixtures("local")
def test_yanked_and_early_releases_and_those_for_other_pythons_are_left_out():
    assert words(releases_of("port")) == ["1.0", "1.9", "1.10"]


@pytest.mark.usefixtures("local")
def test_they_are_there_when_they_are_asked_for():
    assert words(releases_of("Port", pre=True)) == ["1.0", "1.9", "1.10", "3.0rc1"]
    assert words(releases_of("port", yanked=True)) == ["1.0", "1.9", "1.10", "2.0", "2.1"]
    assert words(releases_of("port", python="99.1"))[-1] == "4.0"


@pytest.mark.usefixtures("local")
def test_a_release_of_which_one_file_is_not_yanked_is_there(tmp_path):
    page = PAGE.replace("</body>", '<a href="port-2.0.tar.gz">x</a></body>')
    (tmp_path / "simple" / "port" / "index.html").write_text(page)
    assert "2.0" in words(releases_of("port"))


def test_all_indexes_and_folders_of_wheels_are_merged(local, tmp_path, monkeypatch):
    more = tmp_path / "more"
    (more / "port").mkdir(parents=True)
    (more / "port" / "index.html").write_text('<a href="port-7.0.tar.gz">x</a>')
    write_wheel(tmp_path, "port", "8.0")
    settings = PipSettings(
        index_url=local.index_url, extra_index_urls=(f"file://{more}",), find_links=(str(tmp_path),)
    )
    tell(monkeypatch, settings)
    assert words(releases_of("port"))[-2:] == ["7.0", "8.0"]


@pytest.mark.usefixtures("local")
def test_a_package_that_no_index_knows_is_named():
    with pytest.raises(RequirementError, match=r"(?s)^no-port: no such package.*next:"):
        releases_of("no-port")


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers as an index with PEP 691 does, for the user `me` alone."""

    def do_GET(self):
        if self.headers["Authorization"] != "Basic bWU6b3BlbiBzZXNhbWU=":
            self.send_error(500)
        elif self.path != "/simple/port/":
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
            self.end_headers()
            files = [
                {"filename": "port-1.0.tar.gz", "requires-python": None, "yanked": False},
                {"filename": "port-2.0.tar.gz", "requires-python": ">=3.8", "yanked": "broken"},
            ]
            self.wfile.write(json.dumps({"files": files}).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"127.0.0.1:{served.server_port}/simple"
    served.shutdown()
    thread.join()
    served.server_close()


def test_an_index_on_the_network_is_read_as_json_with_its_password(server, monkeypatch):
    tell(monkeypatch, PipSettings(index_url=f"http://me:open%20sesame@{server}"))
    assert words(releases_of("port")) == ["1.0"]
    with pytest.raises(RequirementError, match="no such package") as missing:
        releases_of("no-port")
    assert "sesame" not in str(missing.value)


def test_an_index_that_cannot_be_read_is_not_an_empty_one(server, monkeypatch):
    tell(monkeypatch, PipSettings(index_url=f"http://me:wrong@{server}"))
    with pytest.raises(EnvironmentUnavailable, match=r"(?s)cannot be read.*500.*next:") as refused:
        releases_of("port")
    assert "wrong@" not in str(refused.value)
