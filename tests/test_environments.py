"""pyproject, constraints and the conda environments name the same packages in the same versions."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONDA = {  # packages with another name on conda-forge than on PyPI
    "matplotlib": "matplotlib-base", "opencv-python-headless": "py-opencv", "seaborn": "seaborn-base",
    "torch": "pytorch",
}  # fmt: skip
OUTSIDE = {"snakemake"}  # Snakemake starts the rules; they do not need it inside
PROGRAMS = {"curl"}  # programs that rules call, no Python packages


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {name.lower(): version for name, version in (line.split("==") for line in lines if "==" in line)}


def environment(name: str) -> dict[str, str]:
    """Package -> version in an environment file, by the names on PyPI."""
    content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())
    pypi = {conda: name for name, conda in CONDA.items()}
    pins = dict(entry.split("=") for entry in content["dependencies"])
    names = {name: re.sub("^(pytorch)-[cg]pu$", r"\1", name) for name in pins}
    return {
        pypi.get(names[name], names[name]): version
        for name, version in pins.items()
        if name not in {"python", *PROGRAMS}
    }


ENVIRONMENTS = pytest.mark.parametrize("name", ["partialres", "partialres-cuda"])


@ENVIRONMENTS
def test_an_environment_has_what_the_package_depends_on_and_no_more(name):
    entries = project()["dependencies"] + project()["optional-dependencies"]["backbones"]
    needed = {re.split("[<>=]", entry)[0] for entry in entries}
    assert set(environment(name)) == needed - OUTSIDE


@ENVIRONMENTS
def test_an_environment_has_the_versions_of_the_constraints(name):
    pinned = constraints()
    for package, version in environment(name).items():
        assert f"{pinned[package]}.".startswith(f"{version}."), package


def test_constraints_satisfy_the_projects_own_lower_bounds():
    pinned = constraints()
    extras = [entry for group in project()["optional-dependencies"].values() for entry in group]
    for entry in project()["dependencies"] + extras:
        package, _, least = entry.partition(">=")
        package = re.sub(r"\[.*\]", "", package).lower()
        if package != "partialres":
            have = [int(part) for part in re.findall(r"\d+", pinned[package])]
            assert have >= [int(part) for part in re.findall(r"\d+", least)], entry


@ENVIRONMENTS
def test_an_environment_names_channels_alone(name):
    """From 26.7 on, conda takes `nodefaults` for a channel, and no such channel exists."""
    assert yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["channels"] == ["conda-forge"]


@ENVIRONMENTS
def test_an_environment_is_solved_from_a_local_channel_of_stand_ins(name, tmp_path):
    """Checks that conda's solver accepts the file, not that conda-forge has these versions."""
    rattler = pytest.importorskip("rattler")
    content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())
    packages = {}
    for entry in content["dependencies"]:
        package, version = entry.split("=")
        packages[f"{package}-{version}.0-0.tar.bz2"] = {
            "name": package, "version": f"{version}.0", "build": "0", "build_number": 0, "depends": [],
            "subdir": "noarch", "md5": "0" * 32, "sha256": "0" * 64, "size": 1,
        }  # fmt: skip
    for folder, held in (("noarch", packages), ("linux-64", {})):
        (tmp_path / folder).mkdir()
        index = {"info": {"subdir": folder}, "packages": held, "packages.conda": {}}
        (tmp_path / folder / "repodata.json").write_text(json.dumps(index))
    solved = asyncio.run(
        rattler.solve([rattler.Channel(tmp_path.as_uri())], content["dependencies"], platforms=["linux-64", "noarch"])
    )
    assert {record.name.normalized for record in solved} == {entry.split("=")[0] for entry in content["dependencies"]}


def test_every_rule_names_an_environment():
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"(?m)^(?=(?:use )?rule )", file.read_text())[1:]:
            if rule.startswith("rule "):
                assert 'environment("' in rule and "    conda:" in rule, rule.splitlines()[0]


def test_the_newest_release_is_the_same_wherever_it_is_written_and_that_of_a_tag_on_this_commit():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.findall(r"^## \[?(\d[\w.]*)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[0]
    assert str(citation["version"]) == newest
    tags = subprocess.run(
        ["git", "tag", "--points-at", "HEAD", "--list", "v*"], cwd=ROOT, capture_output=True, text=True
    )
    assert set(tags.stdout.split()) <= {f"v{newest}"}
