%% What the tests of the plugin have in common: it runs, and a device registers.
-module(plugin).

-include_lib("eunit/include/eunit.hrl").

-export([
    config/0, free_port/0, gateway/0, hooks/0, is_type/2, registered/1, start/0, start/1, start/2, stop/0, update/1, wait/1, wait/2, crash/0
]).

-define(APP, lwm2m_gateway).
-define(OWNER, lwm2m_gateway_emqx_owner).

start() ->
    start(config()).

start(Config) ->
    start(Config, #{}).

%% With a configuration of the plugin.
start(Config, Plugin) ->
    %% Of a test that failed.
    _ = application:stop(?APP),
    stand_in:reset(),
    stand_in:set(config, Config),
    stand_in:set(plugin_config, Plugin),
    ok = application:start(?APP).

stop() ->
    ok = application:stop(?APP).

config() ->
    #{
        enable => true,
        mountpoint => <<"lwm2m/${endpoint_name}/">>,
        lifetime_min => 1000,
        lifetime_max => 86400000,
        translators => #{
            command => #{topic => <<"dn/#">>, qos => 0},
            response => #{topic => <<"up/resp">>, qos => 0},
            notify => #{topic => <<"up/notify">>, qos => 0},
            register => #{topic => <<"up/resp">>, qos => 0},
            update => #{topic => <<"up/resp">>, qos => 0}
        },
        listeners => #{udp => #{default => #{bind => {{127, 0, 0, 1}, 0}, max_connections => 1024}}}
    }.

update(Config) ->
    Instance = ets:lookup_element(stand_in, {loaded, lwm2m}, 2),
    Instance ! {update, self(), Config},
    receive {Instance, Result} -> Result end.

gateway() ->
    element(3, sys:get_state(?OWNER)).

free_port() ->
    {ok, Socket} = gen_udp:open(0),
    {ok, Port} = inet:port(Socket),
    ok = gen_udp:close(Socket),
    Port.

registered(Endpoint) ->
    Device = device:open(gateway()),
    {ok, Location} = device:register(Device, Endpoint, [<<"lwm2m=1.1">>]),
    {Location, Device}.

hooks() ->
    [Name || {Function, [Name | _]} <- stand_in:calls(emqx_hooks), Function =:= run orelse Function =:= run_fold].

is_type(Payload, Type) ->
    case stand_in_json:decode(Payload) of
        #{<<"msgType">> := Type} -> true;
        _ -> false
    end.

wait(Condition) ->
    wait(Condition, 200).

wait(Condition, 0) ->
    ?assert(Condition());
wait(Condition, Tries) ->
    case Condition() of
        true ->
            ok;
        _ ->
            timer:sleep(20),
            wait(Condition, Tries - 1)
    end.

crash() ->
    Owner = whereis(?OWNER),
    exit(Owner, kill),
    wait(fun() -> not lists:member(whereis(?OWNER), [undefined, Owner]) end),
    _ = sys:get_state(?OWNER).
