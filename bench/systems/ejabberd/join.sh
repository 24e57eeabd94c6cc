#!/bin/sh
# Asks node NUMBER something, or makes it a member of node 1's cluster. Usage: join.sh started|join NUMBER PORT
# (PORT as for node.sh). Ends with 0 if the node runs, or is a member now.
set -eu
question=$1
number=$2
port=$3
node="'ejabberd@127.0.0.$number'"
case $question in
started) call="rpc:call($node, ejabberd_admin, status, [])"; good='{ok, _}' ;;
join) call="rpc:call($node, ejabberd_cluster, join, ['ejabberd@127.0.0.1'])"; good=ok ;;
*) exit 2 ;;
esac
exec erl -name "join-$$@127.0.0.9" -hidden -setcookie campanile-bench -noinput \
    -kernel inet_dist_use_interface '{127,0,0,9}' -erl_epmd_port "$((port + 3))" -start_epmd false \
    -eval "case $call of $good -> halt(0); Other -> io:format(\"~p~n\", [Other]), halt(1) end."
