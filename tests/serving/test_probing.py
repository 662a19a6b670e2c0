"""What deploy reads of an endpoint while it watches a canary is what the real server says."""

from __future__ import annotations

from conftest import StartServer, recording
from scripted_server import BREAKING_SECONDS

from avskrift.deployment.probing import Bounds, Probes, answering_version, degradation, probe
from avskrift.deployment.smoke import SmokeTest

BOUNDS = Bounds(stage_s=60.0)


def test_the_version_and_the_figures_of_a_real_server_are_understood(start_server: StartServer) -> None:
    url = f"http://127.0.0.1:{start_server('--model-version', '7').port}"
    good = SmokeTest(audio=recording(1.0), file_type="flac", speech=True, language="sv")
    probes = Probes()
    for _ in range(6):
        probe(url, good, service="avskrift", probes=probes, version="7")
    assert answering_version(url, "avskrift") == "7"
    assert (probes.versions, probes.failures) == (["7"] * 6, [])
    assert (probes.served_requests, probes.served_error_rate) == (6, 0.0)
    assert degradation(probes, probes, BOUNDS) == ""

    breaking = SmokeTest(audio=recording(BREAKING_SECONDS), file_type="flac", speech=True)
    seen = Probes()
    for _ in range(6):
        probe(url, breaking, service="avskrift", probes=seen, version="7")
    assert (len(seen.failures), seen.served_requests, seen.served_error_rate) == (6, 12, 0.5)
    assert "6 of 6 probes failed" in degradation(seen, probes, BOUNDS)


def test_figures_of_another_version_are_not_the_new_ones(start_server: StartServer) -> None:
    url = f"http://127.0.0.1:{start_server('--model-version', '6').port}"
    probes = Probes()
    probe(url, SmokeTest(audio=recording(1.0), file_type="flac", speech=True), service="avskrift", probes=probes, version="7")
    assert (probes.served, probes.versions) == ({}, ["6"])
