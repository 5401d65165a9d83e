"""Servers that any test of this folder may ask."""

from __future__ import annotations

import os

import pytest

from tests.shards.servers import Server


@pytest.fixture
def server():
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def bucket():
    """A real S3 server (moto) with an empty bucket."""
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    s3fs.S3FileSystem.clear_instance_cache()  # one that knows another test's server is kept by fsspec
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
    before = {name: os.environ.get(name) for name in names}
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    os.environ |= dict(zip(names, ("test", "test", f"http://127.0.0.1:{port}", "us-east-1"), strict=True))
    client = boto3.client("s3")
    client.create_bucket(Bucket="clips")
    yield client
    server.stop()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
