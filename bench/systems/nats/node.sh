#!/bin/sh
# Becomes node NUMBER (1 to 3) of a NATS cluster on loopback. Usage: node.sh NUMBER DIRECTORY PORT plain|tls always|2m
# For tls, certificate.sh was run for DIRECTORY. PORT is the first of twelve; a node has four: WebSocket (PORT, PORT + 4, PORT + 8), NATS, cluster, monitoring.
set -eu
number=$1
directory=$2
port=$3
clients=$4
sync=$5
here=$(cd "$(dirname "$0")" && pwd)

routes=
for peer in 1 2 3; do
    routes="$routes${routes:+,}nats://127.0.0.1:$((port + 4 * (peer - 1) + 2))"
done
own=$((port + 4 * (number - 1)))

export WEBSOCKET_PORT="$own"
export STORE_DIR="\"$directory/node-$number\""
export CERTIFICATE="\"$directory/cert.pem\""
export KEY="\"$directory/key.pem\""
export SYNC_INTERVAL="\"$sync\""
exec nats-server --config "$here/$clients.conf" --name "node-$number" --port $((own + 1)) \
    --cluster "nats://127.0.0.1:$((own + 2))" --routes "$routes" --http_port $((own + 3))
