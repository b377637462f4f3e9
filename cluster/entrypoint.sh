#!/usr/bin/env bash
# Writes mounted secrets to the files that the clients of PostgreSQL and S3 read, then runs the command.
# PostgreSQL's client ignores a password file that others can read, as mounted secrets are. Secrets in files cannot leak with the environment.
set -euo pipefail

secrets=${INJERTO_SECRETS:-/run/secrets}

if [[ -r $secrets/postgres_password && -n ${PGPASSFILE:-} ]]; then
  password=$(<"$secrets/postgres_password")
  password=${password//\\/\\\\}
  (umask 077 && printf '*:*:*:*:%s\n' "${password//:/\\:}" >"$PGPASSFILE")
fi

if [[ -r $secrets/objects_user && -r $secrets/objects_password && -n ${AWS_SHARED_CREDENTIALS_FILE:-} ]]; then
  (umask 077 && printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
    "$(<"$secrets/objects_user")" "$(<"$secrets/objects_password")" >"$AWS_SHARED_CREDENTIALS_FILE")
fi

exec "$@"
