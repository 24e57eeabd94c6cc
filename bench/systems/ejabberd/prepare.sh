#!/bin/sh
# Makes what a run needs through node 1: accounts u0, u1, … with the password "secret", and persistent rooms with an
# archive, spread over the nodes. Usage: prepare.sh ACCOUNTS ROOM-PREFIX ROOMS PORT   (PORT as for node.sh)
set -eu
accounts=$1
prefix=$2
rooms=$3
port=$4
exec erl -name "prepare-$$@127.0.0.9" -hidden -setcookie campanile-bench -noinput \
    -kernel inet_dist_use_interface '{127,0,0,9}' -erl_epmd_port "$((port + 3))" -start_epmd false \
    -eval "
        Node = fun(Number) -> list_to_atom(\"ejabberd@127.0.0.\" ++ integer_to_list(Number rem 3 + 1)) end,
        Name = fun(Prefix, Number) -> iolist_to_binary([Prefix, integer_to_list(Number)]) end,
        Account = fun(Number) ->
            case rpc:call(Node(0), ejabberd_auth, try_register, [Name(\"u\", Number), <<\"localhost\">>, <<\"secret\">>]) of
                ok -> ok;
                {error, exists} -> ok
            end
        end,
        Room = fun(Number) ->
            ok = rpc:call(Node(Number), mod_muc_admin, create_room,
                [Name(\"$prefix\", Number), <<\"conference.localhost\">>, <<\"localhost\">>])
        end,
        try
            lists:foreach(Account, lists:seq(0, $accounts - 1)),
            lists:foreach(Room, lists:seq(0, $rooms - 1)),
            halt(0)
        catch Class:Reason ->
            io:format(\"~p ~p~n\", [Class, Reason]),
            halt(1)
        end."
