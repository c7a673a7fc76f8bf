#!/usr/bin/env bash
# Makes the chat's database and its account in a MySQL that has only a root, and gives the account what docker/'s grants
# give it. Waits for that MySQL. What is there already stays.
#
# Owns the names of the database and the account, which are those in the chat's settings. It must not know how many
# servers there are.

set -euo pipefail

readonly host=${DATABASE_HOST:-database}
readonly port=${DATABASE_PORT:-3306}
readonly secrets=${SECRETS:-/run/secrets/database}
readonly grants=${GRANTS:-/grants/grants.sql}
readonly minutes=20

# The password goes through the environment and never on a command line.
MYSQL_PWD=$(<"$secrets/rootPassword")
export MYSQL_PWD
password=$(<"$secrets/password")
readonly password
[[ $password =~ ^[A-Za-z0-9]+$ ]] || {
    echo "create-account: the password in $secrets/password has characters that cannot be put into SQL here" >&2
    exit 1
}

ask() {
    mysql --host="$host" --port="$port" --protocol=tcp --user=root --connect-timeout=5 --batch --skip-column-names "$@"
}

# One that answers may still be a server that takes no writes yet.
until why=$(ask --execute='SELECT @@GLOBAL.super_read_only' 2>&1) && [[ $why == 0 ]]; do
    if ((SECONDS > minutes * 60)); then
        echo "create-account: $host:$port takes no writes after $minutes minutes: $why" >&2
        exit 1
    fi
    echo "create-account: waiting for $host:$port: ${why:-no answer}"
    sleep 5
done

# Through a pipe: a here-document may need a temporary file, and nothing can be written here.
printf '%s;\n' \
    'CREATE DATABASE IF NOT EXISTS smilingchat' \
    "CREATE USER IF NOT EXISTS 'smilingchat'@'%' IDENTIFIED BY '$password'" \
    "GRANT ALL ON smilingchat.* TO 'smilingchat'@'%'" | ask
ask <"$grants"
echo "create-account: the database smilingchat and its account are there"
