"""Which packages tools get, and what a wrong requirement says."""

import json
from importlib import metadata

import pytest

from services.toolenv.sandbox.rootfs import held, prepare_rootfs, remove_unused
from services.toolenv.sandbox.sites import (
    MANIFEST,
    DependencyError,
    base_dependencies,
    copy_site,
    resolve_dependencies,
)

REQUESTS = f"requests=={metadata.version('requests')}"
ATTRS = f"attrs=={metadata.version('attrs')}"


def test_the_base_set_holds_the_http_libraries_and_what_they_import():
    names = {pin.name for pin in base_dependencies().distributions}
    assert {"requests", "httpx", "httpcore", "h11", "anyio", "urllib3", "certifi"} <= names
    assert {"idna", "charset-normalizer", "tzdata"} <= names


def test_lines_that_the_base_set_meets_give_the_base_set():
    assert resolve_dependencies((REQUESTS, "", "# a comment")).name == "base"


def test_a_further_package_makes_another_set_whatever_the_order_of_its_lines():
    one = resolve_dependencies((ATTRS, REQUESTS))
    other = resolve_dependencies((REQUESTS, f"{ATTRS}  # why"))
    assert one == other
    assert one.name != "base"
    assert "attrs" in {pin.name for pin in one.distributions}


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (("requests",), ["line 1 ('requests')", "name==version"]),
        (("", "requests>=2"), ["line 2 ('requests>=2')", "name==version"]),
        (("requests==0.0.1",), ["'0.0.1' is not available", f"write {REQUESTS}"]),
        (("no-such-thing==1",), ["'no-such-thing' is not among", "pip install"]),
        (("-r /etc/passwd",), ["line 1", "name==version"]),
        (("git+https://example.org/x==1",), ["line 1", "name==version"]),
        ((REQUESTS,) * 33, ["33 requirements exceed the limit of 32"]),
    ],
)
def test_a_line_that_cannot_be_met_names_itself_and_the_fix(lines, parts):
    with pytest.raises(DependencyError) as caught:
        resolve_dependencies(lines)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_a_copied_site_holds_no_script_and_says_what_it_holds(tmp_path):
    copy_site(tmp_path, base_dependencies())
    manifest = json.loads((tmp_path / MANIFEST).read_text("utf-8"))
    assert manifest["distributions"]["requests"] == metadata.version("requests")
    assert (tmp_path / "requests" / "__init__.py").is_file()
    assert (tmp_path / "certifi" / "cacert.pem").is_file()
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".pyc", ".pth"}]
    assert not (tmp_path / "bin").exists()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    prepare_rootfs(home)
    return home


def test_trees_of_two_sets_share_the_interpreter_by_hard_links(home):
    base = prepare_rootfs(home)
    other = prepare_rootfs(home, resolve_dependencies((ATTRS,)))
    assert other.path != base.path
    assert (other.path / "site/attr/__init__.py").is_file()
    assert not (base.path / "site/attr").exists()
    assert other.path.joinpath("usr/bin").stat().st_mode & 0o777 == 0o755
    name = other.python.lstrip("/")
    assert (other.path / name).samefile(base.path / name)


def test_a_tree_that_nobody_uses_goes_and_one_in_use_stays(home):
    base = prepare_rootfs(home)
    other = prepare_rootfs(home, resolve_dependencies((ATTRS,)))
    assert remove_unused(home) == []
    with held(base):
        assert remove_unused(home, unused_s=-1.0) == [other.path.name]
    assert base.path.is_dir()
    assert not other.path.exists()
    assert [path.name for path in home.iterdir()] == [base.path.name]


def test_what_a_killed_builder_left_goes_when_it_is_old(tmp_path):
    (tmp_path / ".building-abc" / "root" / "usr").mkdir(parents=True)
    assert remove_unused(tmp_path) == []
    assert remove_unused(tmp_path, unused_s=-1.0) == [".building-abc"]
    assert list(tmp_path.iterdir()) == []
