import json

import pytest

from harness.errors import EnvironmentUnavailable
from harness.versions.environments import environment_for
from harness.versions.resolving import lock_for, parse_spec
from harness.versions.running import run_in

SCRIPT = """
import json, os, sys
import port
print(json.dumps({
    "arguments": sys.argv[1:], "isolated": sys.flags.isolated, "variables": dict(os.environ),
    "folder": os.getcwd(), "path": sys.path, "port": port.VERSION, "from": port.__file__,
}))
print("é", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture
def environment(index):
    index.add("port", "1.0")
    return environment_for(lock_for(parse_spec("port")))


@pytest.fixture
def script(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(SCRIPT, encoding="utf-8")
    return file


def test_a_script_sees_its_environment_and_nothing_of_the_surroundings(
    environment, script, tmp_path, monkeypatch
):
    stray = tmp_path / "stray"
    (stray / "port").mkdir(parents=True)
    (stray / "port" / "__init__.py").write_text("VERSION = 'stray'")
    monkeypatch.setenv("PYTHONPATH", str(stray))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    done = run_in(environment, script, [], cwd=stray, variables={"PYTORCH_JIT": "0"})
    said = json.loads(done.stdout)
    assert said["port"] == "1.0"
    assert said["from"].startswith(str(environment.path))
    assert said["isolated"] == 1
    assert said["folder"] == str(stray)
    assert str(stray) not in said["path"]
    expected = {"PYTORCH_JIT": "0", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    assert expected.items() <= said["variables"].items()
    assert not {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"} & said["variables"].keys()


def test_its_exit_code_and_what_it_said_are_kept(environment, script, tmp_path):
    done = run_in(environment, script, [], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "é\n")


def test_its_arguments_reach_no_shell(environment, script, tmp_path):
    arguments = ["$(touch planted)", "; touch planted", "`touch planted`", "a b", "--x", "*"]
    done = run_in(environment, script, arguments, cwd=tmp_path)
    assert json.loads(done.stdout)["arguments"] == arguments
    assert not (tmp_path / "planted").exists()


def test_a_script_that_does_not_end_in_time_is_stopped(environment, tmp_path):
    endless = tmp_path / "endless.py"
    endless.write_text("import time\ntime.sleep(600)\n")
    with pytest.raises(EnvironmentUnavailable, match=r"endless\.py did not end in 0\.5 s.*next:"):
        run_in(environment, endless, [], cwd=tmp_path, timeout=0.5)
