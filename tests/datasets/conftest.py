"""Loaders are tested on files made here, and on the real ones where SKREWEIGHT_DATA names their folder."""

import os
import socket
from pathlib import Path

import pytest

REAL_DATA = os.environ.get("SKREWEIGHT_DATA")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path_factory):
    """No folder but the test's own, and no network."""

    def refuse(*args, **kwargs):
        raise AssertionError("a test asked for the network")

    monkeypatch.delenv("SKREWEIGHT_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def real_data():
    """Return a function from a relative path to the folder of the real data that has it."""

    def folder_with(file: str) -> Path:
        if REAL_DATA is None:
            pytest.skip("SKREWEIGHT_DATA is not set: no folder with the real data")
        if not (Path(REAL_DATA) / file).exists():
            pytest.skip(f"SKREWEIGHT_DATA has no {file}")
        return Path(REAL_DATA)

    return folder_with
