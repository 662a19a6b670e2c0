"""A Lease is held by one at a time, and outlives a holder that died only for its duration."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from api_server import HANG, LEASES, ApiServer, Object, Refuses, api_server, wait_until
from cluster_world import PATIENCE, World, write_kubeconfig

from avskrift.deployment.cluster import Cluster, connect
from avskrift.deployment.lease import Held, LeaseLock
from avskrift.errors import ClusterError, ConflictError
from avskrift.registry.promotion import PromotionLock


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as made:
        yield made


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    write_kubeconfig(tmp_path / "kubeconfig", server.url)
    return connect(kubeconfig=str(tmp_path / "kubeconfig"), patience=PATIENCE)


def spec(server: ApiServer, name: str = "avskrift-tal") -> Object:
    found: Object = server.objects[f"{LEASES}/{name}"]["spec"]
    return found


def test_a_lock_is_a_promotion_lock_and_is_given_back(cluster: Cluster, server: ApiServer) -> None:
    lock: PromotionLock = LeaseLock(cluster)
    with lock("tal"):
        held = spec(server)
        assert held["holderIdentity"]
        assert held["leaseDurationSeconds"] == 30
        assert datetime.fromisoformat(held["renewTime"]) <= datetime.now(UTC)
    assert spec(server)["holderIdentity"] == ""
    with LeaseLock(cluster)("tal"):
        assert spec(server)["leaseTransitions"] == 1


def test_a_second_one_is_refused_at_once_and_told_who_holds_it(cluster: Cluster) -> None:
    with LeaseLock(cluster)("tal"):
        started = time.monotonic()
        with (
            pytest.raises(ConflictError, match=r"\S+-\d+-\w{8} holds the lock tal, until \d\d:\d\d:\d\d UTC or longer"),
            LeaseLock(cluster)("tal"),
        ):
            pytest.fail("two hold it")
        assert time.monotonic() - started < 1


def test_of_many_at_once_one_has_it(cluster: Cluster) -> None:
    inside, most, barrier = [0], [0], threading.Barrier(8)

    def contend(_: int) -> bool:
        barrier.wait()
        try:
            with LeaseLock(cluster)("tal"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.05)
                inside[0] -= 1
                return True
        except ConflictError:
            return False

    with ThreadPoolExecutor(8) as pool:
        won = sum(pool.map(contend, range(8)))
    assert won >= 1
    assert most[0] == 1


def test_names_that_kubernetes_does_not_take_become_names_of_their_own(cluster: Cluster, server: ApiServer) -> None:
    with LeaseLock(cluster)("Whisper SV"), LeaseLock(cluster)("whisper-sv"), LeaseLock(cluster)("whisper_sv"):
        names = {path.rpartition("/")[2] for path in server.objects}
    assert len(names) == 3
    assert all(name.replace("-", "").isalnum() and name == name.lower() for name in names)


def test_it_is_renewed_while_it_is_held(cluster: Cluster, server: ApiServer) -> None:
    with LeaseLock(cluster, duration_s=1)("tal"):
        first = spec(server)["renewTime"]
        wait_until(lambda: spec(server)["renewTime"] != first)
        assert spec(server)["acquireTime"] == first


def test_one_that_a_dead_holder_left_is_taken_over(cluster: Cluster, server: ApiServer) -> None:
    left_by_the_dead(server, seconds_ago=60)
    with LeaseLock(cluster, duration_s=1)("tal"):
        assert spec(server)["holderIdentity"] != "dead"
        assert spec(server)["leaseTransitions"] == 5


def test_a_holder_whose_clock_is_behind_but_who_renews_is_not_robbed(cluster: Cluster, server: ApiServer) -> None:
    left_by_the_dead(server, seconds_ago=60)
    done = threading.Event()

    def renew() -> None:
        while not done.wait(0.1):
            with server.lock:
                server._count(f"{LEASES}/avskrift-tal", spec_changed=True)

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        with pytest.raises(ConflictError, match="dead holds the lock tal"), LeaseLock(cluster, duration_s=1)("tal"):
            pytest.fail("it was taken from one who lives")
    finally:
        done.set()
        renewing.join()


@pytest.mark.parametrize("answer", [504, HANG])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_lock_that_was_taken_while_the_answer_was_lost_is_ours(cluster: Cluster, server: ApiServer, method: str, answer: int) -> None:
    if method == "PUT":
        left_by_the_dead(server, seconds_ago=60)
        spec(server)["holderIdentity"] = ""
    server.refuses = [Refuses(answer, method=method, done=True)]
    with LeaseLock(cluster).hold("tal") as held:
        held.check()
        assert spec(server)["holderIdentity"]
        assert server.refuses[0].times == 0
    assert spec(server)["holderIdentity"] == ""


def test_a_lock_that_somebody_took_between_our_two_requests_is_theirs(cluster: Cluster, server: ApiServer) -> None:
    server.refuses = [Refuses(504, method="POST")]
    server.after_refusal = lambda: left_by_the_dead(server, seconds_ago=0)
    with pytest.raises(ConflictError, match="somebody else took the lock tal at the same moment"), LeaseLock(cluster)("tal"):
        pytest.fail("two hold it")
    assert spec(server)["holderIdentity"] == "dead"


def left_by_the_dead(server: ApiServer, *, seconds_ago: float) -> None:
    renewed = f"{datetime.now(UTC) - timedelta(seconds=seconds_ago):%Y-%m-%dT%H:%M:%S.%f}Z"
    value = {"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": renewed, "acquireTime": renewed, "leaseTransitions": 4}
    server.objects[f"{LEASES}/avskrift-tal"] = {"metadata": {"name": "avskrift-tal", "resourceVersion": "7"}, "spec": value}


def test_a_lock_that_somebody_took_is_known_to_be_lost(cluster: Cluster, server: ApiServer) -> None:
    with LeaseLock(cluster, duration_s=1).hold("tal") as held:
        held.check()
        with server.lock:
            spec(server)["holderIdentity"] = "somebody"
            server._count(f"{LEASES}/avskrift-tal", spec_changed=True)
        wait_until(lambda: bool(held.lost))
        with pytest.raises(ConflictError, match=r"the lock tal was lost \(somebody took it\)"):
            held.check()
    assert spec(server)["holderIdentity"] == "somebody", "what is not ours is not given back"


def test_a_renewal_whose_answer_was_lost_is_recognised_as_our_own(cluster: Cluster, server: ApiServer) -> None:
    with LeaseLock(cluster, duration_s=1).hold("tal") as held:
        with server.lock:
            server._count(f"{LEASES}/avskrift-tal", spec_changed=True)  # our write came through, its answer did not
        before = spec(server)["renewTime"]
        wait_until(lambda: spec(server)["renewTime"] != before)
        held.check()


def test_a_short_absence_of_the_api_does_not_lose_it_a_long_one_does(cluster: Cluster, server: ApiServer) -> None:
    with LeaseLock(cluster, duration_s=1).hold("tal") as held:
        server.refuses = [Refuses(503, times=5, method="PUT")]
        wait_until(lambda: server.refuses[0].times == 0)
        time.sleep(0.4)
        held.check()
        server.refuses = [Refuses(503, times=10_000, method="PUT")]
        wait_until(lambda: bool(held.lost))
        assert "did not answer" in held.lost


def test_an_api_that_is_away_is_told(cluster: Cluster, server: ApiServer) -> None:
    server.refuses = [Refuses(500, times=10_000)]
    with pytest.raises(ClusterError, match="did not answer 4 times"), LeaseLock(cluster)("tal"):
        pytest.fail("nobody said that it is free")


def test_of_two_deploys_of_a_service_the_second_changes_nothing(world: World) -> None:
    world.deploy("1")
    with LeaseLock(world.cluster())("deploy/tal"):
        applied = len(world.server.applied)
        with pytest.raises(ConflictError, match="holds the lock deploy/tal"):
            world.deploy("2")
        with pytest.raises(ConflictError, match="holds the lock deploy/tal"):
            world.roll_back()
    assert len(world.server.applied) == applied
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


def test_while_somebody_promotes_the_model_elsewhere_a_deploy_goes_back(world: World) -> None:
    """Two services of one model: each has its own lock, and champion has one for both."""
    world.deploy("1")
    reason = r"holds the lock whisper-sv.*; version 1, which served before, is applied again and ready"
    with LeaseLock(world.cluster())("whisper-sv"), pytest.raises(ConflictError, match=reason):
        world.deploy("2", canary="none")
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})


def test_a_deploy_that_lost_its_lock_does_not_move_champion(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.deploy("1")

    def lost(held: Held) -> None:
        held.lost = "somebody took it"
        check(held)

    check = Held.check
    monkeypatch.setattr(Held, "check", lost)
    with pytest.raises(ConflictError, match=r"the lock deploy/tal was lost \(somebody took it\).*; version 1, which served before"):
        world.deploy("2", canary="none")
    assert (world.champion(), world.traffic()) == ("1", {"1": 100})
