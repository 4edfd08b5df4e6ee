"""Requests as items of a set: their keys, and the dicts that they are stored as."""

import sys
from typing import Any, NamedTuple

from scrapy import Request, Spider
from scrapy.utils.httpobj import urlparse_cached
from scrapy.utils.request import request_from_dict

__all__ = ("ID", "TOKEN", "Entry", "Values", "host_of", "key_of", "slot_of", "stored_slot", "to_dict", "to_request")

#: The key of ``meta`` by which a copy of a request is recognized. It is never stored.
TOKEN = "redset_token"  # noqa: S105 - no secret

#: The values of the keys that a stored request leaves out.
DEFAULTS: dict[str, Any] = {
    "callback": None,
    "errback": None,
    "method": "GET",
    "body": b"",
    "cookies": {},
    "encoding": "utf-8",
    "priority": 0,
    "dont_filter": False,
    "flags": [],
    "cb_kwargs": {},
    "headers": {},
    "meta": {},
}
#: The key of the stored dict that has the key of the item.
ID = "id"


class Entry(NamedTuple):
    """A request on its way to the set."""

    key: str
    data: bytes
    score: float
    slot: str
    #: Whether this is the new data of a request that is leased. Any other request is added unless the set has it.
    is_change: bool = False


class Values:
    """The serializer of the set. Requests are serialized before they are added, and loaded as dicts."""

    def __init__(self, serializer: Any) -> None:
        self._serializer = serializer

    def dumps(self, entry: Entry) -> bytes:
        return entry.data

    def loads(self, data: bytes) -> dict[str, Any]:
        value = self._serializer.loads(data)
        if not isinstance(value, dict) or not isinstance(value.get(ID), str):
            raise TypeError("it is no request")
        return value

    def data_of(self, key: str, fields: dict[str, Any]) -> bytes:
        """Return a request as stored. Errors of the serializer pass through."""
        data = self._serializer.dumps({ID: key, **fields})
        return data if isinstance(data, bytes) else str(data).encode()


def key_of(item: Any) -> str:
    """Return the key of an entry, or of a loaded request."""
    key: str = item.key if isinstance(item, Entry) else item[ID]
    return key


def fingerprint_of(key: str) -> str:
    """Return the fingerprint in a key, and what distinguishes its request from others with that fingerprint."""
    return key.partition(" ")[2]


def host_of(request: Request) -> str:
    """Return the host of a request, or a dash for one without a host."""
    return urlparse_cached(request).hostname or "-"


def slot_of(request: Request) -> str:
    """Return the download slot of a request.

    Unlike that of the downloader, it does not depend on the names that this process has resolved.
    """
    return str(request.meta.get("download_slot") or host_of(request))


def stored_slot(fields: dict[str, Any]) -> str:
    """Return the download slot of a stored request."""
    return str(fields.get("meta", {}).get("download_slot") or fields[ID].partition(" ")[0])


def to_dict(request: Request, spider: Spider) -> dict[str, Any]:
    """Return what is stored of a request.

    :raises ValueError: its callback or errback is no method of the spider.
    """
    fields = request.to_dict(spider=spider)
    # The number of retries is that of the attempts, which the set counts.
    meta = {key: value for key, value in fields["meta"].items() if key not in (TOKEN, "retry_times")}
    fields["meta"] = meta
    # Headers are bytes, which JSON can carry only in a form that takes longer and that nobody can read.
    fields["headers"] = {
        name.decode("latin-1"): [value.decode("latin-1") for value in values]
        for name, values in fields["headers"].items()
    }
    return {name: value for name, value in fields.items() if name not in DEFAULTS or value != DEFAULTS[name]}


def to_request(fields: dict[str, Any], spider: Spider) -> Request:
    """Return the request that is stored as this dict.

    :raises ValueError: its class is none of requests that this process knows, or the spider has no such method.
    """
    if "_class" in fields:
        module, _, name = fields["_class"].rpartition(".")
        # request_from_dict would import whatever the server names.
        kind = getattr(sys.modules.get(module), name, None)
        if not (isinstance(kind, type) and issubclass(kind, Request)):
            raise ValueError(f"{fields['_class']} is no class of requests that this process knows")
    headers = {
        name.encode("latin-1"): [value.encode("latin-1") for value in values]
        for name, values in fields.get("headers", {}).items()
    }
    return request_from_dict({**fields, "headers": headers}, spider=spider)
