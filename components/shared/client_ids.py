"""The store's ids of clients: keyed hashes of those in the source (BLAKE2b, RFC 7693)."""

import hashlib
from collections.abc import Iterable

from privet.components.shared import files
from privet.components.shared.errors import ConfigError

_MINIMUM_SALT_BYTES = 16


def hashed_ids(raw_ids: Iterable[bytes], key: bytes) -> list[str]:
    """The store's id of each client.

    Args:
      raw_ids: as in the source, in UTF-8.
      key: as `read_salt` gives it.
    """
    return [hashlib.blake2b(one, key=key, digest_size=16).hexdigest() for one in raw_ids]


def read_salt(path: str) -> bytes:
    """The key of the hash of client ids.

    Raises:
      ConfigError: there is no such file, or it is too short to be secret.
    """
    if not files.exists(path):
        raise ConfigError(
            f"the salt file {path} does not exist. Make one (`head -c 32 /dev/urandom > FILE`), or "
            "leave data.salt_file out to have one made."
        )
    salt = files.read_bytes(path)
    if len(salt) < _MINIMUM_SALT_BYTES:
        raise ConfigError(
            f"the salt file {path} holds {len(salt)} bytes; at least {_MINIMUM_SALT_BYTES} random "
            "ones are needed, or client ids could be guessed from the store."
        )
    return hashlib.blake2b(salt, digest_size=32, person=b"privet salt").digest()
