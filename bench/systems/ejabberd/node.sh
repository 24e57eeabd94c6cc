#!/bin/sh
# Becomes node NUMBER (1 to 3) of an ejabberd cluster on loopback. Usage: node.sh NUMBER DIRECTORY PORT plain|tls
# PORT is node 1's WebSocket port, PORT + 1 node 2's, PORT + 2 node 3's, PORT + 3 the one of the Erlang distribution.
# For tls, certificate.sh was run for DIRECTORY. Nodes 2 and 3 are alone until join.sh was run for each.
set -eu
number=$1
directory=$2
port=$3
tls=false
if [ "$4" = tls ]; then tls=true; fi
here=$(cd "$(dirname "$0")" && pwd)
own=$directory/node-$number
mkdir -p "$own/database"
sed "s/@PORT@/$((port + number - 1))/; s/@TLS@/$tls/" "$here/ejabberd.yml" >"$own/ejabberd.yml"
if [ "$tls" = true ]; then printf 'certfiles:\n  - "%s/server.pem"\n' "$directory" >>"$own/ejabberd.yml"; fi

export EJABBERD_CONFIG_PATH="$own/ejabberd.yml"
export EJABBERD_LOG_PATH="$own/ejabberd.log"
export ERL_MAX_PORTS=65536
export ERL_LIBS="${ERL_LIBS:-$(dirname "$(dirname "$(dpkg -L ejabberd | grep '/ebin$' | head -n 1)")")}"
export ERL_CRASH_DUMP=/dev/null
# Each node has an address of its own, so that all three use one distribution port and no epmd.
# +sbwt none: schedulers that wait do not spin, for three machines share the cores here.
exec erl -name "ejabberd@127.0.0.$number" -setcookie campanile-bench -noinput \
    +K true +P 500000 +sbwt none +sbwtdcpu none +sbwtdio none \
    -kernel inet_dist_use_interface "{127,0,0,$number}" -erl_epmd_port "$((port + 3))" -start_epmd false \
    -mnesia dir "\"$own/database\"" dump_log_write_threshold 50000 \
    -ejabberd log_rotate_count 0 -s ejabberd
