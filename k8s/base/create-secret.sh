#!/usr/bin/env bash
# create-secret.sh NAME KEY[=VALUE]...
#
# Creates the Secret NAME in the pod's namespace. A KEY without a VALUE gets a random value of 256 bits. An existing
# Secret is kept, which counts as success. Random values are never printed or put on a command line.
#
# The script needs bash, coreutils, curl and openssl, all of which MySQL's image has. It does not use kubectl: kubectl's
# image has no shell, and `kubectl create` fails in the same way whether the Secret exists or cannot be created.

set -euo pipefail

readonly account=${SERVICE_ACCOUNT:-/var/run/secrets/kubernetes.io/serviceaccount}
readonly attempts=20
readonly seconds_between=3

fail() {
    printf 'create-secret: %s\n' "$1" >&2
    exit 1
}

# secret NAME KEY[=VALUE]...: the body of the request
secret() {
    local name=$1 item key value separator=
    shift
    printf '{"apiVersion":"v1","kind":"Secret","metadata":{"name":"%s","labels":{"app.kubernetes.io/part-of":"%s"}},' \
        "$name" smilingchat
    printf '"type":"Opaque","stringData":{'
    for item in "$@"; do
        key=${item%%=*}
        if [[ $item == *=* ]]; then
            value=${item#*=}
        else
            value=$(openssl rand -hex 32)
        fi
        printf '%s"%s":"%s"' "$separator" "$key" "$value"
        separator=,
    done
    printf '}}'
}

# Prints the response and, as its last line, the HTTP status, which is 000 if there was no response.
request() {
    printf '%s' "$document" | curl --silent --show-error --noproxy '*' --max-time 20 --cacert "$account/ca.crt" \
        --header @<(printf 'Authorization: Bearer %s\n' "$(<"$account/token")") \
        --header 'Content-Type: application/json' --data-binary @- --write-out '\n%{http_code}' "$url" 2>&1
}

[[ $# -ge 2 ]] || fail "usage: create-secret.sh NAME KEY[=VALUE]..."
# Such a name needs no escaping in JSON.
[[ $1 =~ ^[a-z0-9-]+$ ]] || fail "\"$1\" cannot be the name of a Secret here: use a-z, 0-9 and -"
for item in "${@:2}"; do
    [[ $item =~ ^[A-Za-z0-9._-]+(=[A-Za-z0-9._%-]*)?$ ]] ||
        fail "\"${item%%=*}\" or its value has a forbidden character: use A-Z, a-z, 0-9, . _ - (in a value also %)"
done
[[ -r $account/token ]] || fail "there is no service account token in $account: does the pod mount one?"
host=${KUBERNETES_SERVICE_HOST:?is not set: is this a pod?}
[[ $host != *:* ]] || host="[$host]"
namespace=$(<"$account/namespace")
document=$(secret "$@")
readonly host port=${KUBERNETES_SERVICE_PORT:-443} namespace document
readonly url=https://$host:$port/api/v1/namespaces/$namespace/secrets

# The network of a new pod may not work yet, and its permissions may not have taken effect.
for ((attempt = 1; attempt <= attempts; attempt++)); do
    answer=$(request) || true
    status=${answer##*$'\n'}
    case $status in
    201)
        echo "create-secret: the Secret $1 in the namespace $namespace was created"
        exit 0
        ;;
    409)
        echo "create-secret: the Secret $1 already exists in the namespace $namespace; keeping it"
        exit 0
        ;;
    esac
    echo "create-secret: attempt $attempt of $attempts: $host:$port answered ${status/000/nothing}" >&2
    sleep "$seconds_between"
done
# An error may name the Secret but never repeats a value, so printing it is safe.
printf '%s\n' "$answer" | tail -n 20 >&2
fail "the Secret $1 was not created: see the answer above, and check the network policy and the Role of this job"
