import pytest

from harness.versions.installer import (
    PUBLIC_INDEX,
    PipSettings,
    pip_settings,
    run_uv,
    settings_in,
    uv_variables,
)

pytestmark = pytest.mark.usefixtures("bare_uv")


@pytest.fixture
def bare_uv(monkeypatch):
    for name in ("UV_HTTP_TIMEOUT", "UV_INDEX_STRATEGY", "UV_PYTHON_DOWNLOADS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_what_pip_is_told_is_handed_on_to_uv(tmp_path):
    told = uv_variables(
        settings_in(
            f"global.find-links='{tmp_path}'\nglobal.index-url='https://a.example/simple'\n"
            f"global.extra-index-url='https://b.example/simple\\nfile://{tmp_path}'\n"
            "global.cert='/some/ca.crt'\n:env:.default-timeout='180'\n"
        )
    )
    assert told == {
        "UV_FIND_LINKS": str(tmp_path),
        "UV_DEFAULT_INDEX": "https://a.example/simple",
        "UV_INDEX": f"https://b.example/simple file://{tmp_path}",
        "SSL_CERT_FILE": "/some/ca.crt",
        "UV_HTTP_TIMEOUT": "180",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def test_where_pip_is_told_nothing_uv_hears_of_no_index():
    assert set(uv_variables(settings_in(""))) == {"UV_INDEX_STRATEGY", "UV_PYTHON_DOWNLOADS"}


def test_the_environment_goes_before_the_files_and_install_before_global():
    listing = ":env:.index-url='c'\nglobal.index-url='a'\ninstall.index-url='b'\n"
    assert settings_in(listing).index_url == "c"
    assert settings_in(listing.partition("\n")[2]).index_url == "b"


def test_a_setting_of_uv_that_stands_already_stays(monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example/simple")
    assert "UV_DEFAULT_INDEX" not in uv_variables(PipSettings(index_url="https://a.example"))


def test_folders_that_are_not_there_are_left_out_as_pip_does(tmp_path):
    gone = tmp_path / "gone"
    settings = settings_in(
        f"global.find-links='{gone} {tmp_path} https://a.example/wheels'\n"
        f"global.extra-index-url='file://{gone} file://{tmp_path}'\n"
    )
    assert settings.find_links == (str(tmp_path), "https://a.example/wheels")
    assert settings.extra_index_urls == (f"file://{tmp_path}",)
    assert settings.indexes == (PUBLIC_INDEX, f"file://{tmp_path}")


def test_what_pip_is_told_is_read_from_pip_itself(monkeypatch, tmp_path):
    file = tmp_path / "pip.conf"
    file.write_text(f"[global]\nextra-index-url = file://{tmp_path}\n[install]\nno-index = true\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    pip_settings.cache_clear()
    try:
        settings = pip_settings()
    finally:
        pip_settings.cache_clear()
    assert settings.find_links == (str(tmp_path),)
    assert settings.extra_index_urls[-1] == f"file://{tmp_path}"
    assert settings.indexes == ()


def test_a_relative_folder_is_the_one_that_pip_would_read(monkeypatch, tmp_path):
    (tmp_path / "wheels").mkdir()
    monkeypatch.chdir(tmp_path)
    assert settings_in("global.find-links='wheels'").find_links == (str(tmp_path / "wheels"),)


def test_uv_runs_without_the_settings_of_a_project_or_of_pythonpath(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    done = run_uv(["--version"], cwd=tmp_path, settings=PipSettings())
    assert done.returncode == 0
    assert done.stdout.startswith("uv ")
