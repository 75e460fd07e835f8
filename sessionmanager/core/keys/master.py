"""Master keys: what wraps every tenant's key, and the keys for other purposes that come from the first of them.

A process is given one, or several while one takes the place of another. Which of them wraps what is new is written in
the data (`standing.py`), so that all processes go over at once.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sessionmanager.core.keys.files import KEY_BYTES
from sessionmanager.core.keys.sealing import bind, kek_id_of, unwrap, wrap
from sessionmanager.errors import DataCorrupt

_LASTING: Final = "lasting-keys"

Purpose = Literal["kek", "cursor", "derived-id", "hot-mac", "api-key", "id"]


class LastingKeys(NamedTuple):
    """Keys that come from the first master key that the data had, and stay when another takes its place: API keys and
    cursors that callers hold, ids of repeats and copies in hot hang on them."""

    cursor: bytes
    derived_id: bytes
    hot_mac: bytes
    api_key: bytes

    def __repr__(self) -> str:
        return "LastingKeys(***)"


class MasterKey:
    """The root of all keys, and the keys for other purposes that come from it (HKDF-SHA256, RFC 5869)."""

    __slots__ = ("_aead", "_key", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self._key = key
        self._aead = AESGCM(self.derive("kek"))
        self.id = "m" + self.derive("id")[:8].hex()

    def __repr__(self) -> str:
        return f"MasterKey({self.id}, ***)"

    def derive(self, purpose: Purpose) -> bytes:
        """32 bytes for one purpose, the same each time; none tells anything about another or about the key."""
        return HKDF(
            algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"sessionmanager:1:{purpose}".encode()
        ).derive(self._key)

    @property
    def lasting(self) -> LastingKeys:
        """What data whose first master key this was goes by for ever."""
        return LastingKeys(
            cursor=self.derive("cursor"),
            derived_id=self.derive("derived-id"),
            hot_mac=self.derive("hot-mac"),
            api_key=self.derive("api-key"),
        )

    def wrap(self, aad: bytes, secret: bytes) -> str:
        return wrap(self._aead, self.id, aad, secret)

    def unwrap(self, aad: bytes, wrapped: str) -> bytes:
        return unwrap(self._aead, self.id, aad, wrapped)

    def wrap_lasting(self, keys: LastingKeys) -> str:
        """The lasting keys of data that another master key was the first of."""
        return self.wrap(bind(_LASTING, self.id), b"".join(keys))

    def unwrap_lasting(self, wrapped: str) -> LastingKeys:
        """Raises DataCorrupt."""
        if kek_id_of(wrapped) != self.id:
            raise DataCorrupt("the lasting keys are not wrapped by the master key in use")
        packed = self.unwrap(bind(_LASTING, self.id), wrapped)
        parts = [packed[at : at + KEY_BYTES] for at in range(0, len(packed), KEY_BYTES)]
        if len(packed) != KEY_BYTES * len(LastingKeys._fields):
            raise DataCorrupt("the wrapped lasting keys have a wrong length")
        return LastingKeys(*parts)


class MasterKeys:
    """The master keys that a process was given: each opens what it wrapped.

    first: what `sessionmanager rewrap` goes over to, and what wraps where nothing was written yet. lasting: of this
    data; those of `first` until the data has been asked (`standing.admit`).
    """

    __slots__ = ("_by_id", "first", "lasting")

    def __init__(self, first: bytes, *others: bytes) -> None:
        self.first = MasterKey(first)
        self.lasting = self.first.lasting
        self._by_id = {each.id: each for each in (self.first, *map(MasterKey, others))}

    def __repr__(self) -> str:
        return f"MasterKeys({', '.join(self._by_id)})"

    @property
    def ids(self) -> tuple[str, ...]:
        """Their names, that of the first one first."""
        return tuple(self._by_id)

    def find(self, key_id: str) -> MasterKey | None:
        return self._by_id.get(key_id)

    def having(self, lasting: LastingKeys) -> MasterKeys:
        """The same keys, for data with these lasting ones."""
        same = object.__new__(MasterKeys)
        same.first, same.lasting, same._by_id = self.first, lasting, self._by_id
        return same

    def opening(self, wrapped: str) -> MasterKey:
        """The one that opens this. Raises DataCorrupt: it was not given."""
        key_id = kek_id_of(wrapped)
        master = self._by_id.get(key_id)
        if master is None:
            raise DataCorrupt(f"a key is wrapped by {key_id}, a master key that this service was not given")
        return master
