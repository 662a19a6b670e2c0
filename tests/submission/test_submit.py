"""`avskrift submit` from the outside: what it sends, what it prints, how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_replay import Fault, Replay
from small_pipeline import AVSKRIFT, Command

from avskrift.errors import UsageError
from avskrift_pipelines.pipeline_source import read_pipeline
from avskrift_pipelines.run_parameters import read_parameters

_UPLOAD = "POST /apis/v2beta1/pipelines/upload_version"
_START = "POST /apis/v2beta1/runs"


def sentence(ended: subprocess.CompletedProcess[str]) -> str:
    """What a command that failed says: one line, and no traceback."""
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("avskrift: ")]
    return line


def test_a_first_submission_uploads_the_pipeline_starts_a_run_and_follows_it_to_its_end(
    kfp: Replay, submit: Command, pipeline: Path
) -> None:
    ended = submit("--param", "epochs=5", "--experiment", "swedish", "--service-account", "runner", "--json")
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    assert kfp.uploads == [pipeline.read_text(encoding="utf-8")]
    (run,) = kfp.runs
    assert run["runtime_config"]["parameters"] == {"epochs": 5, "experiment": "swedish"}
    assert run["service_account"] == "runner"
    assert run["pipeline_version_reference"]["pipeline_version_id"] == kfp.versions[0]["pipeline_version_id"]
    assert [one["display_name"] for one in kfp.experiments] == ["swedish"]
    assert (told["state"], told["uploaded"], told["run_id"]) == ("SUCCEEDED", True, run["run_id"])
    assert told["kfp"] == f"{kfp.url}/#/runs/details/{run['run_id']}"
    assert [task["name"] for task in told["tasks"]] == ["prepare", "fine-tune", "evaluate"]
    lines = [line.strip() for line in ended.stderr.splitlines()]
    assert lines[-6:] == [
        "prepare: running",
        "prepare: succeeded, 1:35",
        "fine-tune: running",
        "fine-tune: succeeded, 1:35",
        "evaluate: running",
        "evaluate: succeeded, 1:35",
    ]


def test_the_same_content_is_not_uploaded_again_and_a_changed_default_is_a_new_version(
    kfp: Replay, submit: Command, pipeline: Path
) -> None:
    first = json.loads(submit("--no-wait", "--json").stdout)
    again = json.loads(submit("--no-wait", "--json").stdout)
    assert (first["version"], first["uploaded"], again["uploaded"]) == (again["version"], True, False)
    assert re.fullmatch(r"small-pipeline-[0-9a-f]{12}", first["version"])
    pipeline.write_text(pipeline.read_text(encoding="utf-8").replace("defaultValue: 3.0", "defaultValue: 4.0"), encoding="utf-8")
    changed = json.loads(submit("--no-wait", "--json").stdout)
    assert (changed["uploaded"], changed["version"] != first["version"]) == (True, True)
    assert (len(kfp.pipelines), len(kfp.versions), len(kfp.experiments), len(kfp.runs)) == (1, 2, 1, 3)
    assert len({run["display_name"] for run in kfp.runs}) == 3


def test_a_version_that_gitops_installed_under_another_title_is_used(kfp: Replay, submit: Command, pipeline: Path) -> None:
    source = read_pipeline(str(pipeline))
    kfp.pipelines = [{"pipeline_id": "p", "name": source.name, "display_name": "A small pipeline"}]
    title = {"display_name": "0.1.0 of today", "name": source.version_name}
    kfp.versions = [{"pipeline_id": "p", "pipeline_version_id": "v"} | title]
    assert json.loads(submit("--no-wait", "--json").stdout)["uploaded"] is False
    assert kfp.runs[0]["pipeline_version_reference"] == {"pipeline_id": "p", "pipeline_version_id": "v"}


def test_without_a_cache_no_task_of_any_depth_reuses_results(kfp: Replay, submit: Command) -> None:
    assert submit("--no-wait", "--no-cache").returncode == 0
    (text,) = kfp.uploads
    specification = yaml.safe_load(text)
    groups = [specification["root"], *specification["components"].values()]
    assert [task["cachingOptions"] for group in groups for task in group.get("dag", {}).get("tasks", {}).values()] == [{}] * 5


def test_our_own_pipelines_go_by_name_and_twice_the_same_code_is_one_version() -> None:
    source = read_pipeline("fine-tune")
    assert source.version_name == read_pipeline("fine_tune").version_name
    assert source.name == "avskrift-fine-tune"
    assert read_parameters(source.form, ['training_options={"lora_rank": 16}']) == {"training_options": {"lora_rank": 16}}
    assert {"prepare", "fine-tune", "evaluate", "gate", "register", "deploy", "finalize"} <= set(source.tasks)
    with pytest.raises(UsageError, match=r"no pipeline 'fine_tone'; there are .*fine_tune"):
        read_pipeline("fine_tone")


def test_nothing_is_sent_where_a_parameter_is_refused(kfp: Replay, submit: Command) -> None:
    misspelt = submit("--param", "epoch=5")
    assert misspelt.returncode == 2
    assert "no parameter 'epoch'; did you mean epochs?" in sentence(misspelt)
    assert kfp.asked == []


def test_nothing_of_ours_is_sent_that_a_step_would_refuse(kfp: Replay, avskrift: Command) -> None:
    for given, words in (("max_wer=100", "a fraction from 0 to 1"), ('training_options={"nope": 1}', "no training option")):
        refused = avskrift("submit", "fine_tune", "--host", kfp.url, "--param", given)
        assert refused.returncode == 2
        assert words in sentence(refused)
    assert kfp.asked == []


def test_a_run_that_fails_ends_the_command_with_its_own_code_and_what_the_step_said(kfp: Replay, submit: Command) -> None:
    kfp.ends_as = "FAILED"
    failed = submit()
    assert failed.returncode == 81
    said = sentence(failed)
    assert "ended as failed (evaluate: evaluate: no clips in the test split)" in said
    assert f"{kfp.url}/#/runs/details/{kfp.runs[0]['run_id']}" in said
    assert "KFP     http" in failed.stdout, "the links are printed all the same"


def test_a_named_run_is_followed_and_not_started_again_but_one_that_failed_is(kfp: Replay, submit: Command) -> None:
    named = ("--run-name", "nightly", "--param", "epochs=2")
    assert submit(*named, "--no-wait").returncode == 0
    found = json.loads(submit(*named, "--json").stdout)
    assert (found["found"], found["state"], len(kfp.runs)) == (True, "SUCCEEDED", 1)
    other = submit("--run-name", "nightly", "--param", "epochs=3")
    assert (other.returncode, "there already, of another version or with other parameters" in sentence(other)) == (2, True)
    kfp.runs[0]["state"] = "FAILED"
    assert submit(*named, "--no-wait").returncode == 0
    assert len(kfp.runs) == 2


def test_a_run_whose_start_was_answered_by_a_cut_connection_is_found_and_not_started_twice(kfp: Replay, submit: Command) -> None:
    kfp.faults = [Fault(_START, instead="reset", after=True, times=1), Fault(_UPLOAD, instead="reset", after=True, times=1)]
    ended = submit("--no-wait")
    assert ended.returncode == 0, ended.stderr
    assert (len(kfp.runs), len(kfp.versions)) == (1, 1)


def test_an_upload_that_was_cut_leaves_nothing_that_the_next_command_trips_over(kfp: Replay, submit: Command) -> None:
    kfp.faults = [Fault(_UPLOAD, instead="reset", times=1)]
    cut = submit("--no-wait")
    assert (cut.returncode, "was cut" in sentence(cut)) == (74, True)
    assert submit("--no-wait").returncode == 0
    assert (len(kfp.pipelines), len(kfp.versions), len(kfp.runs)) == (1, 1, 1)


def test_the_token_is_shown_to_the_server_and_to_nobody_else(kfp: Replay, submit: Command) -> None:
    kfp.token = "sekret-token-1234"
    ended = submit("--json", KF_PIPELINES_TOKEN=kfp.token)
    assert ended.returncode == 0, ended.stderr
    assert {shown for _, _, shown in kfp.asked} == {f"Bearer {kfp.token}"}
    wrong = submit(KF_PIPELINES_TOKEN="another-token-5678")
    assert (wrong.returncode, "does not accept the token" in sentence(wrong)) == (75, True)
    debugged = submit(KF_PIPELINES_TOKEN="another-token-5678", AVSKRIFT_DEBUG="1")
    assert "Traceback" in debugged.stderr
    broken = submit(KF_PIPELINES_TOKEN="two words-9012")
    assert (broken.returncode, "holds no token" in sentence(broken)) == (2, True)
    for said in (ended, wrong, debugged, broken):
        assert not re.search("sekret-token-1234|another-token-5678|words-9012", said.stdout + said.stderr)


def test_a_token_file_is_read_anew_for_each_request(
    kfp: Replay, submit: Command, tmp_path: Path, pipeline: Path, environment: dict[str, str]
) -> None:
    token = tmp_path / "token"
    token.write_text("first-token\n", encoding="utf-8")
    kfp.looks = 0
    with _following(kfp, pipeline, environment, "--token-file", str(token)) as command:
        token.write_text("second-token\n", encoding="utf-8")
        _wait(lambda: kfp.asked[-1][2] == "Bearer second-token")
        kfp.looks = 1
        assert command.wait(timeout=30) == 0
    assert kfp.asked[0][2] == "Bearer first-token"
    missing = submit("--token-file", tmp_path / "none")
    assert (missing.returncode, "cannot be read (No such file" in sentence(missing)) == (2, True)


def _following(kfp: Replay, pipeline: Path, environment: dict[str, str], *more: str) -> subprocess.Popen[str]:
    """A submission that has looked at its run twice."""
    words = [AVSKRIFT, "submit", str(pipeline), "--host", kfp.url, "--poll-seconds", "0.05", *more]
    command = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    _wait(lambda: any(looks > 1 for looks in kfp.seen.values()))
    return command


def _wait(holds: Any) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.02)


@pytest.mark.parametrize("cancel", [False, True])
def test_ctrl_c_leaves_the_run_going_unless_it_is_to_be_cancelled(
    kfp: Replay, pipeline: Path, environment: dict[str, str], avskrift: Command, cancel: bool
) -> None:
    kfp.looks = 0
    with _following(kfp, pipeline, environment, *(["--cancel-on-interrupt"] if cancel else [])) as command:
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=30)
    assert command.returncode == 130
    run_id = kfp.runs[0]["run_id"]
    assert "Traceback" not in said
    assert kfp.count(r"POST /apis/v2beta1/runs/.*:terminate") == cancel
    assert f"is being cancelled, `avskrift runs --host {kfp.url} --follow {run_id}`" in said or not cancel
    assert f"goes on, `avskrift runs --host {kfp.url} --follow {run_id}`" in said or cancel
    if not cancel:
        kfp.looks = 1
        again = avskrift("runs", "--host", kfp.url, "--follow", run_id[:8], "--poll-seconds", 0.05)
        assert again.returncode == 0, again.stderr
        assert "prepare: succeeded" in again.stderr


def test_a_server_that_is_away_for_a_moment_while_the_run_is_followed_is_waited_for(kfp: Replay, submit: Command) -> None:
    kfp.faults = [Fault(r"GET /apis/v2beta1/runs/.*", status=503, body="upstream connect error", times=1)]
    ended = submit()
    assert ended.returncode == 0
    assert "failed to show the run" in ended.stderr
    assert "The run goes on; asking again" in ended.stderr


def test_a_token_that_expires_while_the_run_is_followed_ends_the_command_and_not_the_run(kfp: Replay, submit: Command) -> None:
    kfp.faults = [Fault(r"GET /apis/v2beta1/runs/.*", status=401, body='{"message": "token expired"}')]
    ended = submit(KF_PIPELINES_TOKEN="sekret-token-1234")
    assert ended.returncode == 75
    assert "(HTTP 401: token expired)" in sentence(ended)
    assert "goes on, `avskrift runs --host" in sentence(ended)


def test_the_mlflow_page_is_the_one_that_kfps_plugin_names(kfp: Replay, submit: Command) -> None:
    page = "https://mlflow.example.org/#/experiments/1/runs/abc"
    kfp.plugins_output = {"mlflow": {"entries": {"run_url": {"value": page, "render_type": "URL"}}, "state": "PLUGIN_SUCCEEDED"}}
    ended = submit("--param", "tracking_uri=http://mlflow.invalid:5000")
    assert f"MLflow  {page}" in ended.stdout


def test_where_mlflow_is_out_of_reach_it_is_said_how_the_run_is_found_there(kfp: Replay, submit: Command) -> None:
    ended = submit("--param", "tracking_uri=http://user:pass@127.0.0.1:1")
    (run,) = kfp.runs
    tag = f"avskrift.pipeline_run_id = {run['run_id']}"
    assert f"MLflow  http://127.0.0.1:1 (experiment avskrift, the run tagged {tag})" in ended.stdout
