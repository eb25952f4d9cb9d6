"""Push and pull against a loopback Hub over HTTP, through the public API and the real Hub client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_client import ClientError, HubClient
from loopback import Fault, LoopbackHub
from parity import PARITY

CHECKPOINTS = PARITY / "checkpoints"
SOURCE = str(CHECKPOINTS / "ghn2-tiny.joblib.pt")
OTHER = str(CHECKPOINTS / "ghn1-tiny.torch.pt")
DIGEST = """
import hashlib
def digest(ghn):
    total = hashlib.sha256()
    for name, tensor in sorted(ghn.state_dict().items()):
        total.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return total.hexdigest()
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as server:
        yield server


@pytest.fixture(scope="module")
def client(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    process = HubClient(hub.environment(tmp_path_factory.mktemp("hf")))
    process.run(DIGEST + f"ghn = GHN.from_pretrained({SOURCE!r}); other = GHN.from_pretrained({OTHER!r})")
    yield process
    process.close()


@pytest.fixture(autouse=True)
def _no_faults(hub: LoopbackHub) -> Iterator[None]:
    hub.faults.clear()
    hub.requests.clear()
    yield
    hub.faults.clear()


@pytest.fixture(scope="module")
def published(client: HubClient) -> str:
    """Commit of ``me/tiny``, pushed once."""
    return client.run("result = ghn.push_to_hub('me/tiny')")


def failure(client: HubClient, code: str) -> ClientError:
    with pytest.raises(ClientError) as caught:
        client.run(code)
    return caught.value


def test_what_is_pushed_comes_back_bit_equal(client: HubClient, hub: LoopbackHub, published: str) -> None:
    code = "got = GHN.from_pretrained('me/tiny'); result = [digest(got), got.commit, got.source]"
    assert client.run(code) == [client.run("result = digest(ghn)"), published, "me/tiny"]
    files = hub.repos["me/tiny"].commits[published]
    assert {"config.json", "model.safetensors", "README.md"} <= set(files)
    assert json.loads(files["config.json"])["primitives"][0] == "max_pool"


def test_a_push_is_one_commit(client: HubClient, hub: LoopbackHub) -> None:
    client.run("ghn.push_to_hub('me/once', commit_message='first')")
    commits = [line for line in hub.requests if line.startswith("POST") and "/commit/" in line]
    assert commits == ["POST /api/models/me/once/commit/main"]


def test_the_code_in_the_card_runs_as_it_stands(client: HubClient, hub: LoopbackHub, published: str) -> None:
    pytest.importorskip("timm")
    card = hub.repos["me/tiny"].commits[published]["README.md"].decode()
    code = card.split("```python\n")[1].split("```")[0]
    client.run(
        "torch.manual_seed(0)\nimport timm\nuntouched = timm.create_model('resnet18')\ntorch.manual_seed(0)"
    )
    client.run(code.replace("ghn =", "from_card =").replace(", ghn)", ", from_card)"))
    assert client.run("result = [digest(from_card) == digest(ghn), from_card.commit]") == [True, published]
    assert client.run("result = torch.equal(model.conv1.weight, untouched.conv1.weight)") is False


def test_a_pushed_card_says_how_the_ghn_was_trained_and_how_good_it_is(
    client: HubClient, hub: LoopbackHub
) -> None:
    commit = client.run("result = GHN.from_pretrained('bundled').push_to_hub('me/card')")
    card = hub.repos["me/card"].commits[commit]["README.md"].decode()
    assert "\nlicense: apache-2.0\n" in card
    headings = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert headings == ["Use", "Configuration", "Training", "Evaluation", "References"]
    assert "images of fashion-mnist" in card
    assert "the spaces cells" in card
    assert 'from_pretrained("me/card")' in card


def test_a_second_push_is_refused_and_changes_nothing(
    client: HubClient, hub: LoopbackHub, published: str
) -> None:
    error = failure(client, "other.push_to_hub('me/tiny')")
    assert "HubError" in error.kinds
    assert "overwrite=True" in error.message
    assert hub.repos["me/tiny"].refs["main"] == published


def test_revisions_pin_commits_and_tags(client: HubClient, hub: LoopbackHub) -> None:
    first = client.run("result = ghn.push_to_hub('me/versions')")
    client.run("from huggingface_hub import HfApi; HfApi().create_tag('me/versions', tag='v1')")
    second = client.run("result = other.push_to_hub('me/versions', overwrite=True)")
    assert first != second
    code = "got = GHN.from_pretrained('me/versions', revision={!r}); result = [digest(got), got.commit]"
    old, new = client.run("result = [digest(ghn), digest(other)]")
    assert client.run(code.format(first)) == [old, first]
    assert client.run(code.format("v1")) == [old, first]
    assert client.run(code.format("main")) == [new, second]


def test_a_name_without_an_owner_is_completed(client: HubClient, hub: LoopbackHub) -> None:
    commit = client.run("result = ghn.push_to_hub('plain-name')")
    card = hub.repos["me/plain-name"].commits[commit]["README.md"].decode()
    assert 'from_pretrained("me/plain-name")' in card


def test_a_branch_is_made_on_request(client: HubClient, hub: LoopbackHub) -> None:
    main = client.run("result = ghn.push_to_hub('me/branches')")
    side = client.run("result = other.push_to_hub('me/branches', revision='dev', overwrite=True)")
    assert hub.repos["me/branches"].refs == {"main": main, "dev": side}
    assert client.run("result = GHN.from_pretrained('me/branches', revision='dev').commit") == side


def test_a_pull_request_leaves_the_branch_alone(client: HubClient, hub: LoopbackHub, published: str) -> None:
    proposed = client.run("result = other.push_to_hub('me/tiny', create_pr=True)")
    refs = hub.repos["me/tiny"].refs
    assert refs["main"] == published
    assert refs["refs/pr/1"] == proposed


def test_a_private_repository_needs_the_token(client: HubClient, hub: LoopbackHub) -> None:
    client.run("ghn.push_to_hub('me/secret', private=True)")
    assert hub.repos["me/secret"].private
    error = failure(client, "GHN.from_pretrained('me/secret', token=False)")
    assert "private" in error.message
    assert client.run("result = digest(GHN.from_pretrained('me/secret')) == digest(ghn)")


def test_configuration_and_weights_are_of_one_commit(client: HubClient, hub: LoopbackHub) -> None:
    client.run("ghn.push_to_hub('me/atomic')")
    hub.requests.clear()
    client.run("GHN.from_pretrained('me/atomic')")
    revisions = {line.split("/resolve/")[1].split("/")[0] for line in hub.requests if "/resolve/" in line}
    assert revisions == {hub.repos["me/atomic"].refs["main"]}


def test_only_the_needed_files_are_fetched(client: HubClient, hub: LoopbackHub) -> None:
    weights = Path(SOURCE).read_bytes()
    hub.add("them/originals", {"small.pt": weights, "large.pt": b"x" * 1000, "notes.txt": b"y"})
    client.run("got = GHN.from_pretrained('them/originals', filename='small.pt')")
    assert client.run("result = digest(got) == digest(ghn)")
    assert client.run("result = got.commit") == hub.repos["them/originals"].refs["main"]
    fetched = {line.rsplit("/", 1)[1] for line in hub.requests if "/resolve/" in line}
    assert fetched == {"small.pt"}


def test_a_repository_without_our_format_lists_its_files(client: HubClient, hub: LoopbackHub) -> None:
    hub.add("them/listed", {"ghn3tm8.pt": b"1", "ghn2.pt": b"2", "results.json": b"{}"})
    error = failure(client, "GHN.from_pretrained('them/listed')")
    assert "HubError" in error.kinds
    assert "ghn3tm8.pt, " in error.message or ", ghn3tm8.pt" in error.message
    assert "filename=" in error.message
    error = failure(client, "GHN.from_pretrained('them/listed', filename='ghn3xl.pt')")
    assert "no ghn3xl.pt" in error.message
    assert "ghn2.pt" in error.message


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("GHN.from_pretrained('me/nothing-here')", "no repository me/nothing-here"),
        ("GHN.from_pretrained('me/tiny', revision='v99')", "no revision 'v99'"),
        ("GHN.from_pretrained('not//valid')", "does not exist"),
        ("GHN.from_pretrained('spaces are bad/x')", "nor a valid Hub id"),
        ("GHN.from_pretrained('me/tiny', subfolder='deep')", "has no deep/config.json"),
        ("ghn.push_to_hub('me/tiny/extra')", "valid Hub id"),
    ],
)
def test_wrong_names_get_one_clear_error(client: HubClient, published: str, code: str, said: str) -> None:
    error = failure(client, code)
    assert {"GHNInitError", "OSError"} <= set(error.kinds)
    assert said in error.message


def test_a_gated_repository_says_how_to_get_access(client: HubClient, hub: LoopbackHub) -> None:
    client.run("ghn.push_to_hub('me/gated')")
    hub.repos["me/gated"].gated = True
    error = failure(client, "GHN.from_pretrained('me/gated', token=False)")
    assert "HubError" in error.kinds
    assert "gated" in error.message
    assert f"{hub.url}/me/gated" in error.message


@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_hub_is_named_when_nothing_is_cached(
    client: HubClient, hub: LoopbackHub, status: int
) -> None:
    name = f"me/failing{status}"
    client.run(f"ghn.push_to_hub({name!r})")
    hub.faults.append(Fault(rf"GET /api/models/{name}", status))
    error = failure(client, f"GHN.from_pretrained({name!r})")
    assert "HubError" in error.kinds
    assert str(status) in error.message


def test_a_failing_hub_does_not_stop_a_cached_ghn(client: HubClient, hub: LoopbackHub) -> None:
    client.run("ghn.push_to_hub('me/cached'); GHN.from_pretrained('me/cached')")
    hub.faults.append(Fault("me/cached", 500))
    assert client.run("result = digest(GHN.from_pretrained('me/cached')) == digest(ghn)")


def test_a_download_cut_short_is_never_loaded(client: HubClient, hub: LoopbackHub) -> None:
    client.run("ghn.push_to_hub('me/cut')")
    hub.faults.append(Fault(r"GET /me/cut/resolve/.*/model.safetensors", kind="cut"))
    error = failure(client, "GHN.from_pretrained('me/cut')")
    assert "HubError" in error.kinds
    hub.faults.clear()
    assert client.run("result = digest(GHN.from_pretrained('me/cut')) == digest(ghn)")


@pytest.mark.parametrize("step", ["preupload", "objects/batch", "PUT /lfs", "/commit/"])
def test_a_push_that_fails_midway_publishes_nothing(client: HubClient, hub: LoopbackHub, step: str) -> None:
    name = "me/half-" + "".join(letter for letter in step if letter.isalpha())
    hub.lfs.clear()
    hub.faults.append(Fault(step, 403))
    error = failure(client, f"ghn.push_to_hub({name!r})")
    assert "HubError" in error.kinds
    (files,) = hub.repos[name].commits.values()
    assert set(files) == {".gitattributes"}
    hub.faults.clear()
    client.run(f"ghn.push_to_hub({name!r})")
    assert client.run(f"result = digest(GHN.from_pretrained({name!r})) == digest(ghn)")


def test_a_push_without_a_valid_token_says_so(client: HubClient) -> None:
    error = failure(client, "ghn.push_to_hub('me/new', token='hf_wrong')")
    assert "HubError" in error.kinds
    assert "token" in error.message


def test_offline_with_and_without_the_cache(hub: LoopbackHub, client: HubClient, tmp_path: Path) -> None:
    client.run("ghn.push_to_hub('me/offline')")
    online = HubClient(hub.environment(tmp_path))
    expected = online.run(DIGEST + "result = digest(GHN.from_pretrained('me/offline'))")
    online.close()
    offline = HubClient({**hub.environment(tmp_path), "HF_HUB_OFFLINE": "1"})
    hub.requests.clear()
    assert offline.run(DIGEST + "result = digest(GHN.from_pretrained('me/offline'))") == expected
    error = failure(offline, "GHN.from_pretrained('me/tiny')")
    assert "HF_HUB_OFFLINE" in error.message
    assert "cache" in error.message
    error = failure(offline, "GHN.from_pretrained('me/offline').push_to_hub('me/elsewhere')")
    assert "HubError" in error.kinds
    offline.close()
    assert hub.requests == []


def test_local_files_only_and_an_unreachable_hub(client: HubClient, tmp_path: Path) -> None:
    error = failure(client, "GHN.from_pretrained('me/never-fetched', local_files_only=True)")
    assert "HubError" in error.kinds
    assert "local_files_only" in error.message
    with LoopbackHub() as gone:
        environment = gone.environment(tmp_path)
    lost = HubClient(environment)
    error = failure(lost, "GHN.from_pretrained('me/tiny')")
    assert "could not be reached" in error.message
    error = failure(lost, f"GHN.from_pretrained({SOURCE!r}).push_to_hub('me/tiny')")
    assert "HubError" in error.kinds
    lost.close()
