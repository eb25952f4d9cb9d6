"""A Hub that fails in every way that a network and a server can: never half a GHN, never half a push."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_client import ClientError, HubClient
from loopback import Fault, LoopbackHub
from test_hub_exchange import DIGEST, SOURCE

FETCH = "result = digest(GHN.from_pretrained({!r}))"
PATIENCE = {"HF_HUB_ETAG_TIMEOUT": "2", "HF_HUB_DOWNLOAD_TIMEOUT": "2"}


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as server:
        yield server


@pytest.fixture(scope="module")
def client(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    process = HubClient({**hub.environment(tmp_path_factory.mktemp("hf")), **PATIENCE})
    process.run(DIGEST + f"ghn = GHN.from_pretrained({SOURCE!r})")
    yield process
    process.close()


@pytest.fixture(scope="module")
def expected(client: HubClient) -> str:
    return client.run("result = digest(ghn)")


@pytest.fixture(autouse=True)
def _no_faults(hub: LoopbackHub) -> Iterator[None]:
    hub.faults.clear()
    yield
    hub.faults.clear()


def failure(client: HubClient, code: str) -> ClientError:
    with pytest.raises(ClientError) as caught:
        client.run(code)
    assert {"GHNInitError", "HubError", "OSError"} <= set(caught.value.kinds), caught.value
    return caught.value


RESOLVE = r"GET /{}/resolve/.*/model.safetensors"
PERMANENT = {
    "drop": (RESOLVE, Fault("", kind="drop"), "Check the connection"),
    "cut": (RESOLVE, Fault("", kind="cut"), "Check the connection"),
    "silent file": (RESOLVE, Fault("", kind="silent"), "Check the connection"),
    "flip": (RESOLVE, Fault("", kind="flip"), "does not have the hash"),
    "flip configuration": (
        r"GET /{}/resolve/.*/config.json",
        Fault("", kind="flip"),
        "does not have the hash",
    ),
    "502": (RESOLVE, Fault("", 502), "502"),
    "429": (RESOLVE, Fault("", 429), "429"),
    "silent hub": ("/{}", Fault("", kind="silent"), "could not be reached"),
    "dropping hub": ("/{}", Fault("", kind="drop"), "the Hub"),
    "429 hub": ("/api/models/{}", Fault("", 429), "slow down"),
    "503 hub": ("/api/models/{}", Fault("", 503), "try again later"),
}


@pytest.mark.parametrize("kind", PERMANENT)
def test_a_fault_that_stays_is_one_clear_error_and_leaves_nothing_behind(
    client: HubClient, hub: LoopbackHub, expected: str, kind: str
) -> None:
    name = f"me/lasting-{kind.replace(' ', '-')}"
    client.run(f"ghn.push_to_hub({name!r})")
    pattern, fault, said = PERMANENT[kind]
    hub.faults.append(Fault(pattern.format(name), fault.status, fault.kind))
    error = failure(client, FETCH.format(name))
    assert said in error.message
    assert name in error.message
    hub.faults.clear()
    assert client.run(FETCH.format(name)) == expected


@pytest.mark.parametrize("kind", ["drop", "cut", "502", "429"])
def test_a_fault_that_passes_does_not_stop_a_download(
    client: HubClient, hub: LoopbackHub, expected: str, kind: str
) -> None:
    name = f"me/passing-{kind}"
    client.run(f"ghn.push_to_hub({name!r})")
    pattern, fault, _ = PERMANENT[kind]
    hub.faults.append(Fault(pattern.format(name), fault.status, fault.kind, times=1))
    try:
        got = client.run(FETCH.format(name))
    except ClientError:  # the client library does not try every kind again: then the user is told to
        got = client.run(FETCH.format(name))
    assert hub.faults[0].times == 0
    assert got == expected


def waits(hub: LoopbackHub, pattern: str) -> list[float]:
    """Seconds between the requests that match."""
    moments = [when for line, when in zip(hub.requests, hub.moments, strict=True) if re.search(pattern, line)]
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


@pytest.mark.parametrize("request_of", ["/api/models/{}", RESOLVE])
def test_a_download_waits_as_long_as_the_hub_asks(
    client: HubClient, hub: LoopbackHub, expected: str, request_of: str
) -> None:
    name = f"me/asks-to-wait-{len(request_of)}"
    client.run(f"ghn.push_to_hub({name!r})")
    hub.requests.clear()
    hub.moments.clear()
    pattern = request_of.format(name)
    hub.faults.append(Fault(pattern, 429, times=1, retry_after=2))
    assert client.run(FETCH.format(name)) == expected
    assert waits(hub, pattern)[0] >= 2


@pytest.mark.parametrize("step", ["POST /api/repos/create", "preupload", "/commit/"])
def test_a_push_waits_as_long_as_the_hub_asks(
    client: HubClient, hub: LoopbackHub, expected: str, step: str
) -> None:
    name = "me/push-waits-" + "".join(letter for letter in step if letter.isalpha())
    hub.requests.clear()
    hub.moments.clear()
    hub.faults.append(Fault(step, 429, times=1, retry_after=2))
    commit = client.run(f"result = ghn.push_to_hub({name!r})")
    assert waits(hub, step)[0] >= 2
    assert hub.repos[name].refs["main"] == commit
    assert client.run(FETCH.format(name)) == expected


def test_a_wait_that_is_too_long_is_told(client: HubClient, hub: LoopbackHub) -> None:
    client.run("ghn.push_to_hub('me/asks-for-an-hour')")
    hub.requests.clear()
    hub.faults.append(Fault("/api/models/me/asks-for-an-hour", 429, retry_after=3600))
    error = failure(client, FETCH.format("me/asks-for-an-hour"))
    assert "wait 3600 seconds" in error.message


@pytest.mark.parametrize("kind", ["silent", "drop", "status", "flip"])
def test_what_is_in_the_cache_is_used_when_the_hub_fails(
    client: HubClient, hub: LoopbackHub, expected: str, kind: str
) -> None:
    name = f"me/kept-{kind}"
    client.run(f"ghn.push_to_hub({name!r})")
    client.run(FETCH.format(name))
    hub.faults.append(Fault(f"/(api/models/)?{name}/?(?!.*preupload)", 503, kind))
    assert client.run(FETCH.format(name)) == expected


def test_a_renamed_repository_is_followed(client: HubClient, hub: LoopbackHub, expected: str) -> None:
    commit = client.run("result = ghn.push_to_hub('me/new-name')")
    hub.renamed["me/old-name"] = "me/new-name"
    code = "got = GHN.from_pretrained('me/old-name'); result = [digest(got), got.commit, got.source]"
    assert client.run(code) == [expected, commit, "me/old-name"]


def test_a_branch_that_moved_is_followed_and_a_pinned_commit_is_not(
    client: HubClient, hub: LoopbackHub, expected: str
) -> None:
    first = client.run("result = ghn.push_to_hub('me/moving')")
    client.run(FETCH.format("me/moving"))
    client.run(
        "import copy; other = copy.deepcopy(ghn)\n"
        "with torch.no_grad():\n    next(iter(other.parameters())).mul_(2)\n"
        "second = other.push_to_hub('me/moving', overwrite=True)"
    )
    assert client.run("got = GHN.from_pretrained('me/moving'); result = got.commit == second")
    assert client.run(f"result = digest(GHN.from_pretrained('me/moving', revision={first!r}))") == expected
    gone = failure(client, f"GHN.from_pretrained('me/moving', revision={'0' * 40!r})")
    assert "no revision" in gone.message


PUSH_FAULTS = [
    *((step, "status") for step in ("preupload", "objects/batch", "PUT /lfs", "/commit/")),
    *((step, "drop") for step in ("preupload", "/commit/")),
    # the client library tries these again for about twenty seconds
    *(pytest.param(step, "drop", marks=pytest.mark.slow) for step in ("objects/batch", "PUT /lfs")),
]


@pytest.mark.parametrize(("step", "kind"), PUSH_FAULTS)
def test_a_push_that_meets_a_fault_publishes_nothing(
    client: HubClient, hub: LoopbackHub, expected: str, step: str, kind: str
) -> None:
    name = f"me/broken-{kind}-" + "".join(letter for letter in step if letter.isalpha())
    client.run(f"ghn.push_to_hub({name!r})")
    before = dict(hub.repos[name].refs)
    client.run("import copy; other = copy.deepcopy(ghn)\nother.decoder.output.bias.data.add_(1)")
    hub.lfs.clear()
    hub.faults.append(Fault(step, 400, kind))
    failure(client, f"other.push_to_hub({name!r}, overwrite=True)")
    hub.faults.clear()
    assert hub.repos[name].refs == before
    assert client.run(FETCH.format(name)) == expected


def test_of_two_pushes_at_once_one_is_told(hub: LoopbackHub, client: HubClient, tmp_path: Path) -> None:
    client.run("ghn.push_to_hub('me/contested')")
    second = HubClient({**hub.environment(tmp_path), **PATIENCE})
    second.run(DIGEST + f"ghn = GHN.from_pretrained({SOURCE!r})")
    commit = hub.repos["me/contested"].commit(
        "main", hub.repos["me/contested"].commits[hub.repos["me/contested"].refs["main"]]
    )
    outcomes: list[str] = []

    def push(process: HubClient, shift: int) -> None:
        code = f"ghn.decoder.output.bias.data.add_({shift})\nghn.push_to_hub('me/contested', overwrite=True)"
        try:
            process.run(code)
            outcomes.append("pushed")
        except ClientError as error:
            outcomes.append(error.message)

    third = HubClient({**hub.environment(tmp_path / "third"), **PATIENCE})
    third.run(DIGEST + f"ghn = GHN.from_pretrained({SOURCE!r})")
    threads = [threading.Thread(target=push, args=pair) for pair in ((second, 1), (third, 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    third.close()
    assert "pushed" in outcomes
    assert all(text == "pushed" or "changed while the push was prepared" in text for text in outcomes)
    history = hub.repos["me/contested"].commits
    assert hub.repos["me/contested"].refs["main"] != commit
    assert all(
        "config.json" in files and "model.safetensors" in files for files in list(history.values())[1:]
    )


def test_two_processes_fetch_into_one_cache_at_once(
    hub: LoopbackHub, client: HubClient, expected: str, tmp_path: Path
) -> None:
    client.run("ghn.push_to_hub('me/shared')")
    processes = [HubClient({**hub.environment(tmp_path), **PATIENCE}) for _ in range(3)]
    got: list[str] = []

    def fetch(process: HubClient) -> None:
        got.append(process.run(DIGEST + FETCH.format("me/shared")))

    threads = [threading.Thread(target=fetch, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.close()
    assert got == [expected] * 3


AS_NOBODY = "import os\nif os.getuid() == 0:\n    os.setgid(65534); os.setuid(65534)\n"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_a_read_only_cache_serves_what_it_holds_and_names_itself_otherwise(
    hub: LoopbackHub, client: HubClient, expected: str, open_folder: Path
) -> None:
    for name in ("me/held", "me/not-held"):
        client.run(f"ghn.push_to_hub({name!r})")
    writer = HubClient({**hub.environment(open_folder), **PATIENCE})
    writer.run(DIGEST + FETCH.format("me/held"))
    writer.close()
    for path in [open_folder, *open_folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    reader = HubClient({**hub.environment(open_folder), **PATIENCE})
    reader.run(DIGEST + FETCH.format("me/held"))  # imports what a process without rights may not read
    reader.run(AS_NOBODY)
    assert reader.run(FETCH.format("me/held")) == expected
    error = failure(reader, FETCH.format("me/not-held"))
    assert "cache_dir" in error.message
    reader.close()
    for path in [open_folder, *open_folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


def test_a_cache_that_cannot_be_made_is_named(client: HubClient, hub: LoopbackHub, tmp_path: Path) -> None:
    client.run("ghn.push_to_hub('me/no-place')")
    (tmp_path / "file").write_text("in the way")
    error = failure(
        client, f"GHN.from_pretrained('me/no-place', cache_dir={str(tmp_path / 'file' / 'hf')!r})"
    )
    assert "cache_dir=" in error.message
