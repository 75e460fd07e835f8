"""The token secret that the service makes for itself in the data directory, where nobody gave it one.

Only on a loopback address; `settings_checks.py` refuses the start otherwise. `serve` makes it, the commands that talk
to a local service read it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from sessionmanager.core.keys.files import make_key_file, read_key_file
from sessionmanager.settings import Settings
from sessionmanager.settings_checks import refused
from sessionmanager.settings_rows import Secret

FILE_NAME: Final = "jwt-secret"


class SigningSecret(NamedTuple):
    """The secret that signs tokens. path: its file, None = from settings. made: it is new; the log should say so."""

    secret: Secret
    path: Path | None
    made: bool


def signing_secret(settings: Settings, *, make: bool) -> SigningSecret | None:
    """The secret to sign with; None where tokens come from a JWKS address.

    The text in the file is the secret, so that `JWT_SECRET=$(cat data/jwt-secret)` means the same.

    Args: make: make one in the data directory where there is none; otherwise that is None as well.
    Raises: SettingsInvalid: the file cannot be used; the text says why. OSError: it cannot be read or written.
    Cost: a read; once, a write that is durable on return. Two processes that begin at once end with the same secret.
    """
    if settings.jwt_secret is not None:
        return SigningSecret(settings.jwt_secret, None, False)
    if settings.jwt_jwks_url is not None:
        return None
    path = settings.data_dir / FILE_NAME
    made = False
    if make and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another process was first; its secret is as good
            make_key_file(path)
            made = True
    try:
        return SigningSecret(Secret(read_key_file(path).hex()), path, made)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise refused(settings, "data_dir", f"a directory with a good {FILE_NAME}: {error}") from None
