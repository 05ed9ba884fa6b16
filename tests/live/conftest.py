import pytest
from labs.engine.docker_engine import DockerEngine


@pytest.fixture(scope="session")
def engine():
    e = DockerEngine("unix:///root/scratch/eng/run/docker.sock")
    yield e
    e.close()


@pytest.fixture(scope="session")
def toolbox():
    return "scratch/bb:1"
