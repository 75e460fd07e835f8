"""Exit status 0 if the service in this container answers `GET /livez`: its event loop turns. Asks no tier."""

import http.client
import os
import ssl
import sys

TIMEOUT_SECONDS = 2.0


def setting(name: str) -> str | None:
    """A setting as the service reads it from the environment; an empty one is none."""
    return os.environ.get(f"SESSIONMANAGER_{name}") or os.environ.get(name) or None


def connection(port: int) -> http.client.HTTPConnection:
    if setting("TLS_CERT") is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    # The certificate is of another name than this address; nothing is sent that anybody might not read.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS, context=context)


def main() -> int | str:
    """0, 1, or what is wrong: the last is said on stderr, with status 1."""
    port = int(setting("SERVER_PORT") or 8000)
    asked = connection(port)
    try:
        asked.request("GET", "/livez")
        return 0 if asked.getresponse().status == http.HTTPStatus.OK else 1
    except (ssl.SSLError, http.client.RemoteDisconnected) as error:
        # Where it wants a certificate of callers it hangs up on those who show none: it lives.
        return 0 if setting("TLS_CLIENT_CA") else f"no answer on port {port}: {error}"
    except OSError as error:
        return f"nobody answers on port {port}: {error}"
    finally:
        asked.close()


if __name__ == "__main__":
    sys.exit(main())
