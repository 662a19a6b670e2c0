"""The endpoint of this machine, with real processes on real ports."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from deployment_material import alive, free_port, kill, make_package, stand_in

from avskrift.deployment import client, local, process
from avskrift.deployment.endpoint import Endpoint, read_endpoint, write_endpoint
from avskrift.errors import BusyError, DeploymentError, DiskFullError, EndpointError, PortTakenError, UsageError

SECONDS = 60.0


def begin(home: Path, port: int, version: str, mode: str = "good", *extra: str, timeout_s: float = SECONDS) -> Endpoint:
    launch = stand_in(mode, *extra)(package=home / "package", version=version, service="avskrift", port=port)
    return local.start(launch, home=home, accept=lambda endpoint: endpoint, ready_timeout_s=timeout_s)


def recorded(home: Path) -> Endpoint:
    endpoint = read_endpoint(home)
    assert endpoint is not None
    return endpoint


def children() -> list[psutil.Process]:
    """Living predictors; other tests' servers are none of ours."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if any("stand_in_predictor" in word for word in child.cmdline())]


def test_an_endpoint_that_was_accepted_is_ready_and_on_record(home: Path) -> None:
    port = free_port()
    begin(home, port, "3")
    status = local.status(home)
    assert status is not None
    assert (status.state, status.accepted, status.version, status.port) == ("ready", True, "3", port)
    assert status.url == f"http://127.0.0.1:{port}"


def test_the_predictor_is_in_a_session_of_its_own(home: Path) -> None:
    begin(home, free_port(), "1")
    assert psutil.Process(recorded(home).pid).terminal() is None
    assert json.loads(subprocess.check_output(["ps", "-o", "sid=", "-p", str(recorded(home).pid)])) == recorded(home).pid


def test_the_predictor_outlives_the_command_that_started_it_and_holds_none_of_its_pipes(home: Path) -> None:
    code = (
        "import sys, pathlib, deployment_material as m; from avskrift.deployment import local; home = pathlib.Path(sys.argv[1]);"
        "launch = m.stand_in()(package=home, version='1', service='avskrift', port=int(sys.argv[2]));"
        "local.start(launch, home=home, accept=lambda endpoint: endpoint)"
    )
    command = [sys.executable, "-c", code, str(home), str(free_port())]
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (here, here.parents[1])))}
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)  # returns once all its pipes are closed
    status = local.status(home)
    assert status is not None
    assert status.state == "ready"
    assert local.stop(home) is True
    assert not alive(status.pid)


def test_stop_ends_the_process_frees_the_port_and_forgets(home: Path) -> None:
    port = free_port()
    endpoint = begin(home, port, "1")
    assert local.stop(home) is True
    assert not alive(endpoint.pid)
    assert local.status(home) is None
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    assert local.stop(home) is False


def test_a_predictor_that_ignores_sigterm_is_killed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = begin(home, free_port(), "1", "ignores-sigterm")
    monkeypatch.setattr(process, "_STOP_SECONDS", 0.3)
    assert local.stop(home) is True
    assert not alive(endpoint.pid)


def test_a_predictor_that_is_never_ready_is_refused_and_stopped(home: Path) -> None:
    with pytest.raises(DeploymentError, match=r"version 1 was not ready within 1\.5 s: listening \(log: "):
        begin(home, free_port(), "1", "never-ready", timeout_s=1.5)
    assert local.status(home) is None
    assert children() == []


def test_a_predictor_that_dies_is_reported_at_once_with_its_last_line(home: Path) -> None:
    with pytest.raises(DeploymentError, match="version 1 ended with exit code 1 before it was ready: the weights are no weights"):
        begin(home, free_port(), "1", "dies")
    assert local.status(home) is None


def test_a_predictor_that_the_system_kills_is_reported_with_its_signal(home: Path) -> None:
    with pytest.raises(DeploymentError, match="exit code -9 before it was ready: it printed nothing"):
        begin(home, free_port(), "1", "killed-by-system")


def test_a_program_that_is_missing_is_one_sentence(home: Path) -> None:
    launch = local.Launch(package=home, version="1", service="avskrift", port=free_port(), command=("/no/such/program",))
    with pytest.raises(DeploymentError, match="could not be started"):
        local.start(launch, home=home, accept=lambda endpoint: endpoint)


def test_a_new_version_takes_the_port_over(home: Path) -> None:
    port = free_port()
    earlier = begin(home, port, "1")
    later = begin(home, port, "2")
    assert not alive(earlier.pid)
    assert alive(later.pid)
    assert recorded(home).version == "2"


@pytest.mark.parametrize("mode", ["dies", "never-ready"])
def test_when_a_new_version_does_not_start_the_one_before_serves_again(home: Path, mode: str) -> None:
    port = free_port()
    begin(home, port, "1")
    with pytest.raises(DeploymentError, match=f"; version 1, which served before, answers again at http://127.0.0.1:{port}$"):
        begin(home, port, "2", mode, timeout_s=3)
    status = local.status(home)
    assert status is not None
    assert (status.state, status.accepted, status.version) == ("ready", True, "1")
    assert len(children()) == 1


def test_when_a_new_version_is_not_accepted_the_one_before_serves_again(home: Path) -> None:
    port = free_port()
    begin(home, port, "1")

    def refuse(_: Endpoint) -> None:
        raise DeploymentError("wrong words")

    launch = stand_in()(package=home / "package", version="2", service="avskrift", port=port)
    with pytest.raises(DeploymentError, match="wrong words; version 1, which served before, answers again"):
        local.start(launch, home=home, accept=refuse)
    assert recorded(home).version == "1"


def test_an_endpoint_that_was_accepted_stays_where_that_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    begin(home, port, "1")

    def full(folder: Path, endpoint: Endpoint) -> None:
        if endpoint.accepted:
            raise DiskFullError("no space left")
        write_endpoint(folder, endpoint)

    monkeypatch.setattr(local, "write_endpoint", full)
    begin(home, port, "2")
    assert (recorded(home).version, recorded(home).accepted, len(children())) == ("2", False, 1)


def test_when_the_one_before_cannot_start_again_the_error_says_so(home: Path, tmp_path: Path) -> None:
    port = free_port()
    gone = tmp_path / "stand_in.py"
    launch = stand_in()(package=home / "package", version="1", service="avskrift", port=port)
    gone.write_bytes(Path(launch.command[1]).read_bytes())
    moved = local.Launch(
        package=launch.package, version="1", service="avskrift", port=port, command=(sys.executable, str(gone), *launch.command[2:])
    )
    local.start(moved, home=home, accept=lambda endpoint: endpoint)
    gone.unlink()
    with pytest.raises(DeploymentError, match="version 1, which served before, could not be started again"):
        begin(home, port, "2", "dies")
    assert local.status(home) is None
    assert children() == []


def test_ctrl_c_while_a_new_version_is_tried_leaves_no_process(home: Path) -> None:
    def interrupt(_: Endpoint) -> None:
        raise KeyboardInterrupt

    launch = stand_in()(package=home / "package", version="1", service="avskrift", port=free_port())
    with pytest.raises(KeyboardInterrupt):
        local.start(launch, home=home, accept=interrupt)
    assert local.status(home) is None
    assert children() == []


def test_a_port_that_somebody_else_holds_is_refused_before_anything_is_stopped(home: Path) -> None:
    ours = begin(home, free_port(), "1")
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        with pytest.raises(PortTakenError, match=r"taken by .* choose another with --port"):
            begin(home, somebody.getsockname()[1], "2")
    assert alive(ours.pid)
    assert recorded(home) == dataclasses.replace(ours, accepted=True)


def test_our_record_of_a_port_does_not_make_another_programs_port_ours(home: Path) -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
            write_endpoint(home, _pretend(bystander.pid, psutil.Process(bystander.pid).create_time(), port))
            with pytest.raises(PortTakenError):
                begin(home, port, "2")
            assert bystander.poll() is None
            bystander.communicate(b"\n")


def test_a_port_can_be_checked_before_hours_of_training(home: Path) -> None:
    ours = begin(home, free_port(), "1")
    local.check_port(home, ours.port)
    local.check_port(home, free_port())
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        with pytest.raises(PortTakenError, match=f"taken by .*process {os.getpid()}"):
            local.check_port(home, somebody.getsockname()[1])


@pytest.mark.parametrize("url", ["not a url", "http://127.0.0.1:1", "http://127.0.0.1:99999", "ftp://127.0.0.1/"])
def test_an_endpoint_that_does_not_answer_is_one_sentence(url: str) -> None:
    with pytest.raises(EndpointError) as refused:
        client.transcribe(url, b"", file_type="wav", model="avskrift")
    assert url in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not client.is_ready(url)


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_number_that_is_no_port_is_refused(home: Path, port: int) -> None:
    with pytest.raises(UsageError, match="from 1 to 65535"):
        begin(home, port, "1")


def test_after_sigkill_status_says_dead_and_stop_cleans_up(home: Path) -> None:
    endpoint = begin(home, free_port(), "1")
    kill(endpoint.pid)
    status = local.status(home)
    assert status is not None
    assert status.state == "dead"
    assert local.stop(home) is False
    assert local.status(home) is None


def test_a_process_that_only_has_the_recorded_number_is_never_killed(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        write_endpoint(home, _pretend(bystander.pid, psutil.Process(bystander.pid).create_time() - 3600, free_port()))
        status = local.status(home)
        assert status is not None
        assert status.state == "dead"
        assert local.stop(home) is False
        begin(home, free_port(), "2")
        assert bystander.poll() is None
        bystander.communicate(b"\n")


def test_a_second_command_does_not_change_the_endpoint_meanwhile(home: Path) -> None:
    endpoint = begin(home, free_port(), "1")
    with (home / "endpoint" / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError):
            begin(home, free_port(), "2")
        with pytest.raises(BusyError):
            local.stop(home)
    assert alive(endpoint.pid)


def test_a_record_that_cannot_be_read_is_named(home: Path) -> None:
    (home / "endpoint").mkdir()
    (home / "endpoint" / "endpoint.json").write_text("{", encoding="utf-8")
    with pytest.raises(DeploymentError, match=r"endpoint\.json: not an endpoint's record"):
        local.status(home)
    (home / "endpoint" / "endpoint.json").unlink()


def test_the_predictor_gets_no_credentials(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "AVSKRIFT_API_KEY", "AVSKRIFT_RUNNER_PID", "MDC_API_KEY"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("AVSKRIFT_MAX_AUDIO_SECONDS", "60")
    begin(home, free_port(), "1", "good", "--environment-to", str(tmp_path / "environment.json"))
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert "hidden" not in environment.values()
    assert environment["AVSKRIFT_MAX_AUDIO_SECONDS"] == "60"
    assert "PATH" in environment


def test_only_the_last_few_logs_are_kept(home: Path) -> None:
    (home / "endpoint").mkdir()
    for number in range(9):
        (home / "endpoint" / f"predictor-{number}.log").touch()
    begin(home, free_port(), "1")
    assert len(list((home / "endpoint").glob("predictor-*.log"))) == 5


def test_a_proxy_in_the_environment_does_not_stand_between_us_and_the_endpoint(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    begin(home, free_port(), "1")
    status = local.status(home)
    assert status is not None
    assert status.state == "ready"


def test_the_real_predictor_is_started_with_options_that_it_takes(home: Path, tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    (package.folder / "model.json").unlink()
    launch = local.predictor_launch(package=package.folder, version="7", service="avskrift", port=free_port())
    with pytest.raises(DeploymentError, match=r"version 7 ended with exit code 22 before it was ready: .*no model\.json"):
        local.start(launch, home=home, accept=lambda endpoint: endpoint)


def _pretend(pid: int, created: float, port: int) -> Endpoint:
    return Endpoint(
        pid=pid,
        created=created,
        host="127.0.0.1",
        port=port,
        service="avskrift",
        package="/p",
        version="1",
        command=("true",),
        log="",
        accepted=True,
    )
