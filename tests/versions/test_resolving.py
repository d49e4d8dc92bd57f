from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from stub_index import NEEDED

from harness.errors import EnvironmentUnavailable, RequirementError
from harness.versions.resolving import (
    Change,
    known_pins,
    lock_difference,
    lock_for,
    parse_spec,
    pins_for,
    pins_in,
    versions_in,
)

TORCH = Version(version("torch"))


def locked(spec, **options):
    return lock_for(parse_spec(spec), **options)


@pytest.mark.parametrize(
    ("spec", "read"),
    [
        ("transformer-lens==3.9.0 transformers==5.9.0",
         ["transformer-lens==3.9.0", "transformers==5.9.0"]),
        ("  transformers >= 5 ,  < 6\nnumpy", ["transformers<6,>=5", "numpy"]),
        ("a[x,y]~=1.2 b==4.49.* c!=1,>0", ["a[x,y]~=1.2", "b==4.49.*", "c!=1,>0"]),
        ("torch==2.13.0+cpu", ["torch==2.13.0+cpu"]),
    ],
)  # fmt: skip
def test_a_spec_is_read_as_the_requirements_in_it(spec, read):
    assert [str(each) for each in parse_spec(spec)] == read


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("", "''"),
        ("   ", "'   '"),
        ("--index-url=https://example.org numpy", "--index-url=https://example.org"),
        ("-r requirements.txt", "-r"),
        ("numpy -e .", "-e"),
        ("./wheel.whl", "./wheel.whl"),
        ("/etc/passwd", "/etc/passwd"),
        ("../numpy", "../numpy"),
        ("https://example.org/a.whl", "https://example.org/a.whl"),
        ("numpy@https://example.org/a.whl", "numpy@https"),
        ("numpy @ file:///a.whl", "@"),
        ("git+https://example.org/a", r"git\+https"),
        ("numpy;python_version>'3'", "numpy;python_version"),
        ("numpy==1;rm", "numpy==1;rm"),
        ("numpy==$(touch", r"numpy==\$"),
        ("numpy==`id`", "numpy==`id`"),
        ("numpy|cat", r"numpy\|cat"),
        ("==5.9.0", "==5.9.0"),
        ("numpy==", "numpy=="),
        ("numpy=1.26", "numpy=1.26"),
        ("numpy==one", "numpy==one"),
        ("numpy>=1,", "numpy>=1,"),
        ("numpy===1", "numpy===1"),
        ("numpy NumPy==2", "numpy twice"),
    ],
)
def test_what_is_not_a_requirement_is_refused_by_name(spec, word):
    with pytest.raises(RequirementError, match=rf"(?s){word}.*allowed:.*next:"):
        parse_spec(spec)


def test_a_lock_holds_what_is_asked_and_what_a_worker_needs(index):
    index.add("port", "1.0", "transformers>=1")
    lock = locked("port==1.0")
    assert lock.versions == {"port": "1.0", "torch": str(TORCH), **NEEDED}
    assert lock.requirements == ("port==1.0",)


def test_the_lock_of_a_baseline_holds_every_other_package(index):
    index.add("port", "1.0", "base")
    index.add("base", "1.0")
    before = locked("port==1.0")
    for name in ("base", "numpy", "pyarrow"):
        index.add(name, "3.0")
    index.add("port", "2.0", "base")
    held = locked("port==2.0", prefer=before.text)
    assert lock_difference(before.text, held.text) == (Change(name="port", old="1.0", new="2.0"),)
    moved = {change.name for change in lock_difference(before.text, locked("port==2.0").text)}
    assert moved == {"port", "base", "numpy", "pyarrow"}


def test_what_the_packages_under_test_force_moves_nevertheless(index):
    index.add("port", "1.0", "base")
    index.add("base", "1.0")
    before = locked("port==1.0")
    index.add("port", "2.0", "base>=2", "extra")
    index.add("base", "2.0")
    index.add("extra", "1.0")
    index.add("numpy", "3.0")
    assert lock_difference(before.text, locked("port==2.0", prefer=before.text).text) == (
        Change(name="base", old="1.0", new="2.0"),
        Change(name="extra", old=None, new="1.0"),
        Change(name="port", old="1.0", new="2.0"),
    )


def test_a_release_that_does_not_exist_is_named_with_those_that_do(index):
    index.add("port", "1.0")
    index.add("port", "1.1")
    with pytest.raises(RequirementError, match=r"(?s)^port==9\.9: there is no such.*1\.1.*next:"):
        locked("port==9.9")


@pytest.mark.usefixtures("index")
def test_a_package_that_does_not_exist_is_named():
    with pytest.raises(RequirementError, match=r"(?s)^no-such-port: no such package.*next:"):
        locked("no-such-port==1.0")


def test_where_nothing_meets_two_requirements_the_words_of_uv_are_shown(index):
    index.add("port", "1.0", "numpy>=3")
    index.add("numpy", "3.0")
    with pytest.raises(RequirementError, match=r"(?s)port.* depends? on numpy>=3.*next:"):
        locked("port==1.0 numpy==2.0")


def test_another_build_of_torch_is_refused(index):
    (index.folder / f"torch-{TORCH}-py3-none-any.whl").unlink()
    index.add("torch", f"{TORCH.public}+cu999")
    with pytest.raises(EnvironmentUnavailable, match=r"(?s)another build.*cu999.*PIP_FIND_LINKS"):
        locked("numpy")


def test_another_build_of_a_torch_that_is_asked_for_is_refused(index):
    index.add("torch", "0.1+cu999")
    with pytest.raises(EnvironmentUnavailable, match=r"another build"):
        locked("torch==0.1")


def test_another_version_of_torch_of_the_same_build_is_taken(index):
    same = f"0.1+{TORCH.local}" if TORCH.local else "0.1"
    index.add("torch", same)
    assert locked("torch==0.1").versions["torch"] == same


def test_a_higher_build_beside_the_running_one_is_passed_over(index):
    index.add("torch", f"{TORCH.public}+zz9")
    assert locked("numpy").versions["torch"] == str(TORCH)


def test_each_pin_is_a_requirement_with_a_reason():
    assert known_pins()
    for pin in known_pins():
        assert SpecifierSet(pin.versions)
        assert Requirement(pin.requirement).specifier
        assert len(pin.reason) > 20


@pytest.mark.parametrize(
    ("release", "pinned"),
    [
        ("2.0.0", "typeguard==4.4.2"),
        ("2.15.4", "transformers<=4.49.0"),
        ("2.16.1", "transformers<=4.53.3"),
        ("3.2.1", "transformers<=4.57.6"),
    ],
)
def test_an_older_stack_is_pinned_to_what_it_was_run_with(release, pinned):
    pins = pins_for(["transformer-lens"], {"transformer-lens": release})
    assert pinned in [pin.requirement for pin in pins]


HEAD = "package,versions,requirement,reason\n"
ROW = 'torch,"<2",numpy<2,"it was run so"\n'


@pytest.mark.parametrize(
    "text",
    [
        "package,versions,requirement\ntorch,<2,numpy<2\n",
        HEAD + "torch,<2\n",
        HEAD + ROW.replace("<2", "<<2"),
        HEAD + ROW.replace("torch", "to rch"),
        HEAD + '"torch,<2',
        HEAD + ROW + "\x00\xff",
    ],
)
def test_pins_that_are_none_are_refused_by_their_file(text, tmp_path):
    file = tmp_path / "pins.csv"
    file.write_text(HEAD + ROW)
    assert pins_in(file)[0].requirement == "numpy<2"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(RequirementError, match=r"(?s)pins\.csv cannot be read.*next:"):
        pins_in(file)


@pytest.mark.parametrize("release", ["3.9.0", "4.3.0"])
def test_a_stack_that_runs_with_the_newest_is_not_pinned(release):
    assert pins_for(["transformer-lens"], {"transformer-lens": release}) == ()


def test_a_package_that_the_user_names_is_not_pinned():
    versions = {"transformer-lens": "2.16.1", "numpy": "1.26.4"}
    assert len(pins_for(["transformer-lens"], versions)) == 2
    assert pins_for(["transformer-lens", "transformers", "pyarrow"], versions) == ()


def test_a_stack_that_holds_numpy_below_2_has_a_pyarrow_that_runs_with_it(index):
    for name, release in (("numpy", "1.26"), ("pyarrow", "19.0.1"), ("pyarrow", "26.0.1")):
        index.add(name, release)
    index.add("old", "1.0", "numpy<2")
    assert locked("old").versions["pyarrow"] == "19.0.1"
    assert locked("transformers").versions["pyarrow"] == "26.0.1"


@pytest.mark.parametrize("spec", ["transformer-lens==2.15.4", "transformer-lens<3"])
def test_a_pin_enters_the_lock_and_the_lock_says_why(index, spec):
    index.add("transformer-lens", "2.15.4", "transformers")
    for release in ("4.49.0", "4.57.6", "5.9.0"):
        index.add("transformers", release)
    lock = locked(spec)
    assert lock.versions["transformers"] == "4.49.0"
    assert "Mistral" in lock.pins[0].reason
    assert locked(f"{spec} transformers==5.9.0").versions["transformers"] == "5.9.0"


def test_a_lock_that_is_not_one_is_refused():
    with pytest.raises(RequirementError, match=r"(?s)'numpy>1'.*next:"):
        versions_in("numpy>1\n")
