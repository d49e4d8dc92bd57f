import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import EnvironmentUnavailable, RequirementError
from harness.record import read_sealed, write_sealed
from harness.versions.environments import (
    ALL,
    Environment,
    environment_for,
    environments,
    key_of,
    remove,
)
from harness.versions.installer import pip_settings
from harness.versions.interpreters import find_interpreter
from harness.versions.resolving import Lock, lock_for, parse_spec, resolve

BUILDER = """
import sys, time
from harness.versions import environments
from harness.versions.resolving import Lock
STOP = {stop!r}
def hang(*_):
    print("stopped", flush=True)
    time.sleep(600)
if STOP:
    setattr(environments, STOP, hang)
lock = Lock(text={text!r}, requirements=("port",), python={python!r})
environments.environment_for(lock, progress=lambda word: print(word, flush=True))
"""


@pytest.fixture
def lock(index) -> Lock:
    index.add("port", "1.0")
    index.add("base", "1.0")
    return Lock(
        text="base==1.0\nport==1.0\n", requirements=("port",), python=platform.python_version()
    )


def builder(lock: Lock, *, stop: str = "") -> subprocess.Popen[str]:
    program = BUILDER.format(text=lock.text, python=lock.python, stop=stop)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def packages_of(environment: Environment) -> Path:
    return next(environment.path.glob("lib/python*/site-packages"))


def version_seen_by(environment: Environment) -> str:
    asked = [environment.python, "-I", "-c", "import port; print(port.VERSION)"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_an_environment_holds_the_packages_of_its_lock(lock):
    environment = environment_for(lock)
    assert environment.versions == {"base": "1.0", "port": "1.0"}
    assert version_seen_by(environment) == "1.0"
    assert environment.key == key_of(lock.text, find_interpreter(None))


def test_another_lock_or_python_is_another_environment():
    here = find_interpreter(None)
    keys = {key_of("a==1\n", here), key_of("a==2\n", here)}
    assert len(keys) == 2
    assert key_of("a==1\n", here) == key_of("a==1\n", find_interpreter(sys.executable))


def test_the_second_use_builds_nothing_and_takes_less_than_a_second(lock):
    environment_for(lock)
    said = []
    begin = time.monotonic()
    environment_for(lock, progress=said.append)
    assert time.monotonic() - begin < 1
    assert said == []


def test_bytecode_is_there_and_is_shared_by_environments(lock, index):
    index.add("other", "1.0")
    more = Lock(text=f"other==1.0\n{lock.text}", requirements=("other",), python=lock.python)
    first, second = environment_for(lock), environment_for(more)
    compiled = f"port/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
    assert (packages_of(first) / compiled).samefile(packages_of(second) / compiled)
    assert (packages_of(second) / compiled.replace("port", "other")).is_file()
    assert version_seen_by(second) == "1.0"


@pytest.mark.parametrize("stop", ["_uv", "_lacks", "_contents"])
def test_what_a_killed_builder_leaves_is_never_used_and_goes(lock, stop, tmp_path):
    killed = builder(lock, stop=stop)
    while killed.stdout.readline() != "stopped\n":
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    folder = tmp_path / "cache" / "environments"
    assert len(left_in(folder)) == 1, "the builder was killed in the midst of its work"
    assert environments() == []
    said = []
    environment = environment_for(lock, progress=said.append)
    assert any("building" in word for word in said)
    assert version_seen_by(environment) == "1.0"
    assert left_in(folder) == [environment.key]


def test_what_a_killed_builder_leaves_goes_with_the_build_of_another(lock, tmp_path):
    killed = builder(lock, stop="_lacks")
    while killed.stdout.readline() != "stopped\n":
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    other = Lock(text="base==1.0\n", requirements=("base",), python=lock.python)
    environment = environment_for(other)
    assert left_in(tmp_path / "cache" / "environments") == [environment.key]


def test_a_builder_at_work_is_not_disturbed_by_the_build_of_another(lock, tmp_path):
    busy = builder(lock, stop="_lacks")
    while busy.stdout.readline() != "stopped\n":
        assert busy.poll() is None
    environment_for(Lock(text="base==1.0\n", requirements=("base",), python=lock.python))
    assert len(left_in(tmp_path / "cache" / "environments")) == 2
    busy.kill()
    busy.communicate()


def test_two_builders_at_once_build_one(lock):
    said = [each.communicate()[0] for each in [builder(lock), builder(lock)]]
    assert "".join(said).count(": building") == 1
    assert version_seen_by(environment_for(lock)) == "1.0"


def remove_a_package(environment):
    shutil.rmtree(packages_of(environment) / "port-1.0.dist-info")


def remove_a_module(environment):
    shutil.rmtree(packages_of(environment) / "port")


def change_a_version(environment):
    file = packages_of(environment) / "port-1.0.dist-info" / "METADATA"
    text = file.read_text().replace("Version: 1.0", "Version: 1.1")
    file.unlink()  # a link into uv's cache: what lies there is not to change
    file.write_text(text)


def add_a_package(environment):
    packages = packages_of(environment)
    shutil.copytree(packages / "port", packages / "stray")


def lose_the_python(environment):
    environment.python.unlink()


def cut_the_seal(environment):
    seal = environment.path / "environment.json"
    seal.write_text(seal.read_text()[:50])


def seal_another_lock(environment):
    seal = environment.path / "environment.json"
    write_sealed(seal, {**read_sealed(seal), "lock": "port==2.0\n"})


def lose_all_packages(environment):
    shutil.rmtree(packages_of(environment))


def lose_a_name(environment):
    file = packages_of(environment) / "port-1.0.dist-info" / "METADATA"
    text = file.read_text().replace("Name:", "Nome:")
    file.unlink()
    file.write_text(text)


def change_a_word_of_the_seal(environment):
    seal = environment.path / "environment.json"
    seal.write_text(seal.read_text().replace("python_version", "python-version"))


@pytest.mark.parametrize(
    "tamper",
    [
        remove_a_package,
        remove_a_module,
        change_a_version,
        add_a_package,
        lose_the_python,
        cut_the_seal,
        seal_another_lock,
        lose_all_packages,
        lose_a_name,
        change_a_word_of_the_seal,
    ],
)
def test_an_environment_that_was_tampered_with_is_noticed_and_built_anew(lock, tamper):
    environment = environment_for(lock)
    tamper(environment)
    said = []
    again = environment_for(lock, progress=said.append)
    assert "it is built anew" in said[0]
    assert version_seen_by(again) == "1.0"
    assert environment_for(lock, progress=said.append) == again
    assert len(said) == 3


def test_a_package_that_cannot_be_installed_is_told_in_the_words_of_uv(lock, tmp_path):
    absent = Lock(text="port==7.7\n", requirements=("port==7.7",), python=lock.python)
    with pytest.raises(EnvironmentUnavailable, match=r"(?s)port==7\.7.*next:"):
        environment_for(absent)
    assert left_in(tmp_path / "cache" / "environments") == []


@pytest.mark.parametrize("harm", [cut_the_seal, change_a_word_of_the_seal])
def test_a_damaged_seal_is_told_by_the_list_and_lends_nothing_to_another(lock, harm):
    environment = environment_for(lock)
    harm(environment)
    with pytest.raises(EnvironmentUnavailable, match=rf"env remove {environment.key}"):
        environments()
    other = Lock(text="base==1.0\n", requirements=("base",), python=lock.python)
    assert environment_for(other).versions == {"base": "1.0"}
    assert remove(environment.key) == (environment.key,)
    assert len(environments()) == 1


def test_an_environment_without_a_seal_of_its_seal_as_older_ones_are_is_used(lock):
    environment = environment_for(lock)
    seal = environment.path / "environment.json"
    seal.write_text(json.dumps(read_sealed(seal)))
    said = []
    assert environment_for(lock, progress=said.append) == environment
    assert said == []


def test_environments_are_listed_with_the_last_used_first_and_removed(lock):
    first = environment_for(lock)
    second = environment_for(Lock(text="base==1.0\n", requirements=("base",), python=lock.python))
    os.utime(second.path / "environment.json", (0, 0))
    assert [each.key for each in environments()] == [first.key, second.key]
    environment_for(Lock(text=second.lock, requirements=("base",), python=lock.python))
    assert [each.key for each in environments()] == [second.key, first.key]
    assert all(0 < each.own_bytes < 1 << 20 for each in environments())
    assert remove(first.key) == (first.key,)
    assert environments() == [second]
    assert remove(ALL) == (second.key,)
    assert environments() == []
    assert not second.path.exists()


@pytest.mark.parametrize("key", ["", "zz", "../", "-"])
def test_a_key_that_names_no_environment_removes_nothing(lock, key):
    environment = environment_for(lock)
    with pytest.raises(RequirementError, match=rf"(?s)0 environments.*{environment.key}.*next:"):
        remove(key)
    assert environments() == [environment]


def test_a_python_that_is_not_installed_is_unavailable():
    with pytest.raises(EnvironmentUnavailable, match=r"(?s)no Python 3\.99.*next:"):
        find_interpreter("3.99")


@pytest.mark.parametrize("python", ["", "-c", "three", "3", "/no/such/python", "$(id)"])
def test_what_is_no_python_is_refused(python):
    with pytest.raises(RequirementError, match=r"(?s)is not a Python.*next:"):
        find_interpreter(python)


def test_a_file_that_is_no_python_is_unavailable(tmp_path):
    file = tmp_path / "python"
    file.write_text("")
    with pytest.raises(EnvironmentUnavailable, match=r"is not a Python that runs.*next:"):
        find_interpreter(str(file))


def test_the_python_of_a_path_is_asked_who_it_is():
    assert find_interpreter(sys.executable) == find_interpreter(None)


def test_a_lock_becomes_an_environment_in_which_the_port_is_imported(index):
    index.add("port", "1.0", "transformers")
    assert version_seen_by(environment_for(lock_for(parse_spec("port==1.0")))) == "1.0"


def test_the_real_index_is_reached_with_the_settings_of_pip(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    here = find_interpreter(None)
    text = resolve(["packaging==24.0"], here, pip_settings(), prefer="")
    lock = Lock(text=text, requirements=("packaging==24.0",), python=here.version)
    asked = "import packaging; print(packaging.__version__)"
    python = environment_for(lock).python
    said = subprocess.run([python, "-I", "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout == "24.0\n"
