"""Randomness of the tests: seeded, printed, and open to being run again."""

import os
from collections.abc import Iterator
from zlib import crc32

import numpy as np
import pytest
from hypothesis import settings

# Examples take as long as a simulation takes. In continuous integration the same ones are drawn every time.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=1, help="seed of everything random, hypothesis apart (default 1)")


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.getoption('seed')} (another with --seed N)"


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """Seed of this run."""
    return int(request.config.getoption("seed"))


@pytest.fixture
def rng(request: pytest.FixtureRequest, seed: int) -> np.random.Generator:
    """Random numbers of this test's own: the same in every run with the same seed, whatever ran before."""
    return np.random.default_rng([seed, crc32(request.node.nodeid.encode())])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed and {"seed", "rng"} & set(getattr(item, "fixturenames", ())):
        report.sections.append(("seed", f"run it again: pytest '{item.nodeid}' --seed {item.config.getoption('seed')}"))
    return report
