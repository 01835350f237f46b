"""Trainer images as they are asked for: by docker, podman and buildah, of whichever recipe, each named by its digest.

test_image_started.py builds one, pushes it and starts it as a pod.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.recipes.conftest import ROOT
from trainyard.errors import TrainyardError, UserError
from trainyard.recipes import image, imagetools
from trainyard.recipes.contract import load_recipe

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NAME = "ghcr.io/me/trainyard-trainer"
TOOLS = sorted(imagetools.TOOLS)


class Registry:
    """Notes commands and answers each as its tool would; what is built is seen while its folder is there."""

    def __init__(self, digest: str = DIGEST, size: int = 17_200_000_000) -> None:
        self.digest, self.size = digest, size
        self.asked: list[list[str]] = []
        self.context: dict[str, str] = {}

    def __call__(self, command: Sequence[str], *, shown: bool = False) -> str:
        self.asked.append(list(command))
        words = " ".join(command)
        if "--digestfile" in command:
            Path(command[command.index("--digestfile") + 1]).write_text(self.digest)
        if "--build-arg" in command:
            folder = Path(command[-1])
            self.context = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
        if "imagetools" in words:
            other = {"digest": OTHER, "platform": {"os": "linux", "architecture": "arm64"}}
            ours = {"digest": self.digest, "platform": {"os": "linux", "architecture": "amd64"}}
            return json.dumps({"digest": OTHER, "manifests": [other, ours]})
        if "image inspect" in words:
            return json.dumps([{"RepoDigests": [f"other@{OTHER}", f"{NAME}@{self.digest}"], "Digest": self.digest, "Size": self.size}])
        if "images --json" in words:
            return json.dumps([{"digest": self.digest}])
        return json.dumps({"layers": [{"size": 200_000_000}, {"size": self.size - 200_000_000}]}) if "inspect --type" in words else ""

    @property
    def built(self) -> list[list[str]]:
        return [command for command in self.asked if "--build-arg" in command]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "docker", tmp_path / "docker", ignore=shutil.ignore_patterns("base.digest"))
    return tmp_path


def made(
    root: Path, tool: str = "docker", recipe: str = "lora", kind: str = "gpu", base: str | None = None, name: str = f"{NAME}:1"
) -> Registry:
    registry = Registry()
    image.build(root, image.order(root, recipe, kind, name, base), imagetools.TOOLS[tool], call=registry)
    return registry


@pytest.mark.parametrize("tool", TOOLS)
def test_the_first_build_records_the_base_images_digest_and_later_ones_keep_it(tool: str, checkout: Path) -> None:
    first, second = made(checkout, tool), made(checkout, tool)
    assert (checkout / "docker/base.digest").read_text() == DIGEST + "\n"
    assert len(first.asked) > 1 and second.asked == second.built
    for command in (*first.built, *second.built):
        assert command[0] == tool and "build" in command and command[command.index("--platform") + 1] == "linux/amd64"
        assert f"BASE_DIGEST={DIGEST}" in command and command[command.index("--tag") + 1] == f"{NAME}:1"


@pytest.mark.parametrize("tool", TOOLS)
def test_a_push_names_the_image_by_the_digest_that_its_registry_has(tool: str) -> None:
    assert image.push(f"{NAME}:1", imagetools.TOOLS[tool], call=Registry()) == (f"{NAME}@{DIGEST}", 18)
    with pytest.raises(TrainyardError, match="told no digest"):
        image.push(f"{NAME}:1", imagetools.TOOLS[tool], call=Registry(digest=""))


def test_a_build_without_a_digest_cannot_happen(checkout: Path) -> None:
    assert "ARG BASE_DIGEST\n" in (checkout / "docker/Dockerfile").read_text()
    what, docker = image.order(checkout, "lora", "gpu", f"{NAME}:1"), imagetools.TOOLS["docker"]
    with pytest.raises(TrainyardError, match="no digest"):
        image.build(checkout, what, docker, call=Registry(digest="latest"))
    (checkout / "docker/base.digest").write_text("latest\n")
    with pytest.raises(UserError, match="no digest"):
        image.build(checkout, what, docker, call=Registry())


def test_another_base_is_taken_by_its_digest_and_asked_for_one_where_it_has_none(checkout: Path) -> None:
    given = made(checkout, base=f"debian:13@{OTHER}")
    assert given.asked == given.built and {"BASE=debian:13", f"BASE_DIGEST={OTHER}"} < set(given.built[0])
    asked = made(checkout, base="debian:13")
    assert {"BASE=debian:13", f"BASE_DIGEST={DIGEST}"} < set(asked.built[0])
    assert not (checkout / "docker/base.digest").exists()
    with pytest.raises(UserError, match="no digest"):
        made(checkout, base="debian:13@latest")


@pytest.mark.parametrize(("recipe", "kind"), [("lora", "gpu"), ("lora", "cpu"), ("summarizer", "gpu"), ("dataset", "cpu")])
def test_the_environment_of_any_recipe_that_has_one_can_be_the_images(recipe: str, kind: str, checkout: Path) -> None:
    found = load_recipe(ROOT, recipe)
    registry = made(checkout, recipe=recipe, kind=kind)
    assert registry.context["docker/recipe.lock"] == found.locks[kind].read_text()
    assert {"LOCK=docker/recipe.lock", f"IMPORTS={', '.join(found.imports)}"} < set(registry.built[0])


def test_recipes_with_the_same_lock_share_an_image_and_a_name_that_says_whose_it_is() -> None:
    lora, summarizer = (image.order(ROOT, recipe, "gpu", NAME) for recipe in ("lora", "summarizer"))
    assert {"lora", "merge", "summarizer"} <= set(image.ready_for(ROOT, lora.lock)) and "command" not in image.ready_for(ROOT, lora.lock)
    assert re.fullmatch(rf"{NAME}:lora-gpu-[0-9a-f]{{12}}", lora.reference)
    assert lora.reference.replace("lora", "summarizer") == summarizer.reference


def test_a_recipe_without_such_an_environment_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(UserError, match=r"recipe 'command' has no environment for gpu; its packages are those of a run's code"):
        image.order(ROOT, "command", "gpu", NAME)
    with pytest.raises(UserError, match=r"'dataset' has no environment for gpu; it has one for cpu") as refused:
        image.order(ROOT, "dataset", "gpu", NAME)
    assert refused.value.hint == "Say --lock cpu."


@pytest.mark.parametrize("reference", ["ghcr.io/me/other:1", "ghcr.io/me/other", "localhost:5000/me", ""])
def test_another_name_would_not_be_known_as_an_image_that_brings_the_watchdog(reference: str) -> None:
    with pytest.raises(UserError, match="trainyard-trainer:TAG"):
        image.order(ROOT, "lora", "gpu", reference)


def test_everything_that_the_dockerfile_copies_exists() -> None:
    text = (ROOT / "docker/Dockerfile").read_text()
    given = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    sources = [re.sub(r"\$\{(\w+)\}", lambda match: given[match[1]], words.split()[-2]) for words in re.findall(r"^COPY (.+)$", text, re.M)]
    assert len(sources) == 5
    assert [path for path in sources if not (ROOT / path).is_file()] == []


def test_a_repository_of_ones_own_builds_the_image_from_what_trainyard_brings_and_from_its_own_files(tmp_path: Path) -> None:
    root = tmp_path / "own"
    (root / "docker").mkdir(parents=True)
    (root / "docker/base.digest").write_text(DIGEST + "\n")
    (root / "docker/sshd_config").write_text("# mine\n")
    (root / "docker/__pycache__").mkdir()
    (root / "docker/__pycache__/x.pyc").write_bytes(b"\xa7")
    seen = made(root).context

    assert seen["docker/sshd_config"] == "# mine\n"
    for path in ("docker/Dockerfile", "docker/entrypoint.sh", "templates/common/installer.lock", "trainyard/pod/watchdog.py"):
        assert seen[path] == (ROOT / path).read_text()


def test_the_environment_in_the_image_has_the_name_that_run_sh_looks_for() -> None:
    lines = (ROOT / "docker/Dockerfile").read_text(), (ROOT / "templates/common/run.sh.j2").read_text()
    assert "$(sha256sum /opt/trainyard/recipe.lock | cut -c1-16)-py$py-linux-x86_64" in lines[0]
    assert '"$1/$key"-py*-"$platform"' in lines[1] and 'key=$(sha256 "$lock" | cut -c1-16)' in lines[1]


def test_the_commands_that_the_folders_readme_shows_exist() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        import tasks
    finally:
        sys.path.remove(str(ROOT))
    shown = re.findall(r"^invoke (image\.\w+)([^#\n]*)", (ROOT / "docker/README.md").read_text(), re.MULTILINE)
    assert {verb for verb, _ in shown} == {"image.build", "image.push"}
    for verb, words in shown:
        known = {f"--{name}" for argument in tasks.ns[verb].get_arguments() for name in argument.names}
        assert set(re.findall(r"--\w+", words)) <= known


class Machine:
    """A PATH with stand-ins for tools: each notes how it was called, and answers, or does not."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.log = folder, folder / "log"
        monkeypatch.setenv("PATH", str(folder))

    def has(self, name: str, *, answers: bool = True, says: str = "") -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.log}\n{says}\nexit {0 if answers else 1}\n')
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_the_first_tool_that_answers_is_taken_a_docker_without_its_daemon_is_not(machine: Machine) -> None:
    machine.has("buildah")
    machine.has("docker", answers=False)
    assert imagetools.find_tool().name == "buildah"
    machine.has("docker")
    assert imagetools.find_tool().name == "docker" and imagetools.find_tool("buildah").name == "buildah"


def test_without_any_tool_it_says_which_would_do_and_why_one_that_is_there_does_not(machine: Machine) -> None:
    with pytest.raises(TrainyardError, match="one of docker, podman, buildah is needed"):
        imagetools.find_tool()
    with pytest.raises(TrainyardError, match="podman is not installed here"):
        imagetools.find_tool("podman")
    with pytest.raises(UserError, match=r"'builda' \(did you mean 'buildah'\?\)"):
        imagetools.find_tool("builda")
    machine.has("docker", answers=False)
    with pytest.raises(TrainyardError, match="docker: installed here, but without an answer") as failed:
        imagetools.find_tool()
    assert "docker version" in str(failed.value.hint)


def test_a_tool_that_fails_or_answers_nonsense_ends_in_a_sentence(machine: Machine) -> None:
    machine.has("docker", answers=False)
    with pytest.raises(TrainyardError, match=r"'docker push .*' failed with exit code 1"):
        image.push(f"{NAME}:1", imagetools.TOOLS["docker"])
    machine.has("docker", says="echo '[]'")
    with pytest.raises(TrainyardError, match="no JSON object"):
        image.push(f"{NAME}:1", imagetools.TOOLS["docker"])


def test_the_verbs_build_push_and_print_the_lines_that_belong_into_the_settings(tmp_path: Path) -> None:
    root, log = tmp_path / "w", tmp_path / "log"
    shutil.copytree(ROOT / "docker", root / "docker", ignore=shutil.ignore_patterns("base.digest"))
    for name in ("tasks.py", "Pulumi.yaml"):
        (root / name).symlink_to(ROOT / name)
    inspected = json.dumps([{"RepoDigests": [f"{NAME}@{DIGEST}"], "Size": 9e9}])
    answers = {"imagetools": json.dumps({"digest": DIGEST}), "image inspect": inspected}
    said = "\n".join(f"  *'{words}'*) echo '{answer}' ;;" for words, answer in answers.items())
    (tmp_path / "docker").write_text(f'#!/bin/sh\necho "$*" >>{log}\ncase "$*" in\n{said}\n  *) echo progress ;;\nesac\n')
    (tmp_path / "docker").chmod(0o755)

    def invoke(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TRAINYARD_PROJECT_DIR": str(root), "COLUMNS": "200"}
        done = subprocess.run([sys.executable, "-m", "invoke", *words], cwd=root, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done

    settings = [f"  trainyard:image: {NAME}@{DIGEST}", "  trainyard:image_gb: 9"]
    done = invoke("image.build", "--push", f"{NAME}:1")
    built, context = next((line, line.rpartition(" ")[2]) for line in log.read_text().splitlines() if "buildx build" in line)
    assert built.startswith("buildx build --load --provenance=false --platform linux/amd64") and built.endswith(f"--tag {NAME}:1 {context}")
    assert not Path(context).exists()
    assert done.stdout.splitlines()[-2:] == settings and "progress" not in done.stdout and "progress" in done.stderr
    assert invoke("image.push", "--ref", f"{NAME}:1").stdout.splitlines() == settings
    assert "Say one of them" in invoke("image.build", "--ref", NAME, "--push", NAME, code=2).stderr
