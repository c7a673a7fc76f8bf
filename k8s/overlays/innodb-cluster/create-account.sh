#!/usr/bin/env bash
# Waits for MySQL, then creates the chat's database and account, with the grants of docker/mysql-grants.sql. Both names
# are those in the settings of the chat.

set -euo pipefail

readonly host=${DATABASE_HOST:-database}
readonly port=${DATABASE_PORT:-3306}
readonly secrets=${SECRETS:-/run/secrets/database}
readonly grants=${GRANTS:-/grants/grants.sql}
readonly minutes=20

# Root's password reaches the client through the environment, never on a command line.
MYSQL_PWD=$(<"$secrets/rootPassword")
export MYSQL_PWD
password=$(<"$secrets/password")
readonly password
[[ $password =~ ^[A-Za-z0-9]+$ ]] || {
    echo "create-account: the password in $secrets/password has characters that this script cannot quote in SQL" >&2
    exit 1
}

ask() {
    mysql --host="$host" --port="$port" --protocol=tcp --user=root --connect-timeout=5 --batch --skip-column-names "$@"
}

# A server that answers may still be read-only.
until why=$(ask --execute='SELECT @@GLOBAL.super_read_only' 2>&1) && [[ $why == 0 ]]; do
    if ((SECONDS > minutes * 60)); then
        echo "create-account: $host:$port still accepts no writes after $minutes minutes: $why" >&2
        exit 1
    fi
    echo "create-account: waiting for $host:$port: ${why:-no answer}"
    sleep 5
done

# A pipe, because a here-document may need a temporary file and the file system is read-only.
printf '%s;\n' \
    'CREATE DATABASE IF NOT EXISTS smilingchat' \
    "CREATE USER IF NOT EXISTS 'smilingchat'@'%' IDENTIFIED BY '$password'" \
    "GRANT ALL ON smilingchat.* TO 'smilingchat'@'%'" | ask
ask <"$grants"
echo "create-account: the database smilingchat and its account exist"
