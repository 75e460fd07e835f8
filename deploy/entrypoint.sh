#!/bin/sh
# The image's first process: becomes `sessionmanager` with the same arguments, so that signals reach it.
set -eu

# Reachable from outside it refuses to start without a secret. Whoever has just typed `docker run` gets the line to add.
secret='^(SESSIONMANAGER_)?(JWT_SECRET(_FILE)?|JWT_JWKS_URL)=.|^SESSIONMANAGER_CONFIG=.'
if [ "$*" = serve ] && ! env | grep -qE "$secret"; then
    case ${SESSIONMANAGER_SERVER_HOST:-${SERVER_HOST:-}} in
    127.* | ::1 | localhost) ;;
    *)
        cat >&2 <<'LINE'
sessionmanager: tokens need a secret that outlives the container. Add one, keep it, and run again:

  docker run -e JWT_SECRET="$(openssl rand -base64 48)" -p 8000:8000 -v sessionmanager:/data --name sessionmanager sessionmanager

then a token is one line away:  docker exec sessionmanager sessionmanager token --role admin
LINE
        exit 2
        ;;
    esac
fi
exec sessionmanager "$@"
