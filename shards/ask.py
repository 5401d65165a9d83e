"""One question to a server, through fsspec. The answer is bounded in time and in bytes, whatever is sent."""

from __future__ import annotations

from typing import Any

import fsspec

from cacl.errors import UserError, shorten

_CONNECT_SECONDS, _SILENT_SECONDS, _ANSWER_SECONDS = 10, 20, 60
"""How long a connection may take, a server may say nothing, and the whole answer to one question may last."""
_PLAIN = ("", "identity")


def ask(location: str, name: str, most: int, span: tuple[int, int] | None = None) -> bytes:
    """Return the file `name`, which has at most `most` bytes, or those from span[0] up to span[1].

    Raises UserError where more comes, FileNotFoundError where there is none, and what the protocol raises.
    """
    # Looked up each time: fsspec keeps one file system a process, and a fork needs its own.
    system, root = fsspec.url_to_fs(location, **_patience(location))
    if _is_http(location):
        return fsspec.asyn.sync(system.loop, _ask_http, system, f"{root}/{name}", most, span)
    start, end = span or (0, most + 1)
    data: bytes = system.cat_file(f"{root}/{name}", start=start, end=end)
    if len(data) > (end - start if span else most):
        raise _too_long(f"{location}/{name}", end - start if span else most)
    return data


async def _ask_http(system: Any, url: str, most: int, span: tuple[int, int] | None) -> bytes:
    """Read as much as was asked for and no further: fsspec itself reads whatever comes, and unpacks it."""
    session = await system.set_session()
    given = system.kwargs.get("headers", {})
    ranged = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
    headers = {**given, "Accept-Encoding": "identity", **ranged}
    async with session.get(system.encode_url(url), **{**system.kwargs, "headers": headers}) as answer:
        if answer.status == 404:
            raise FileNotFoundError(url)
        answer.raise_for_status()
        packed = answer.headers.get("Content-Encoding", "")
        if packed.lower() not in _PLAIN:
            raise UserError(
                f"{url}: comes in the Content-Encoding {shorten(packed)}, which nobody asked for; have its "
                "server send it as it is"
            )
        in_part = span is not None and answer.status == 206
        limit = span[1] - span[0] if span and in_part else most
        data = bytearray()
        async for chunk in answer.content.iter_any():
            data += chunk
            if len(data) > limit:
                raise _too_long(url, limit)
    # A server that knows no ranges sends the whole.
    return bytes(data if span is None or in_part else data[span[0] : span[1]])


def _too_long(url: str, limit: int) -> UserError:
    return UserError(
        f"{url}: its server sends more than {limit} bytes, all that there should be; see what serves it, "
        "then upload shards and manifest again"
    )


def _is_http(location: str) -> bool:
    return fsspec.utils.get_protocol(location) in ("http", "https")


def _patience(location: str) -> dict[str, Any]:
    """Return what keeps a connection of this protocol from waiting for ever, as its file system takes it."""
    if _is_http(location):
        from aiohttp import ClientTimeout

        limits = ClientTimeout(_ANSWER_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
        return {"client_kwargs": {"timeout": limits, "auto_decompress": False}}
    if fsspec.utils.get_protocol(location) in ("s3", "s3a"):
        return {"config_kwargs": {"connect_timeout": _CONNECT_SECONDS, "read_timeout": _SILENT_SECONDS}}
    return {}
