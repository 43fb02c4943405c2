%% @doc Whose the gateway type `lwm2m' of EMQX is: ours while the plugin runs, the built-in one's
%% otherwise. Nothing here raises an exception, and everything ends: EMQX gives a plugin ten
%% seconds to start. There are no funs: when EMQX 5.8 loads this module again meanwhile, for a second start, those
%% of the version that runs are lost (`badfun').
-module(lwm2m_gateway_emqx_takeover).

-export([begin_change/0, end_change/0, take/1, release/0, give_back/0, is_given_back/0, is_stopping/0]).

-on_load(mend/0).

-define(GATEWAY, lwm2m).
-define(BUILT_IN, emqx_gateway_lwm2m).
-define(SCHEMA, emqx_lwm2m_schema).

%% A change of hands is tried so often, but no more once so many milliseconds have passed.
-define(ATTEMPTS, 5).
-define(LIMIT, 3_000).
%% Milliseconds before the second attempt; doubled for each further one. The environment of the
%% application may say `takeover_pause'.
-define(PAUSE, 50).
%% So long, in milliseconds, those that hold a name may take to end by themselves.
-define(PATIENCE, 2_000).
-define(KILL_PATIENCE, 500).

%% What EMQX and this plugin register for the gateway, and what has to be free before the gateway
%% can be loaded again. EMQX's unload does not wait for all of them: the locker ends when it hears
%% that `emqx_gateway_cm', which it is linked to, has ended.
-define(NAMES, [
    emqx_gateway_lwm2m_cm,
    emqx_gateway_lwm2m_locker,
    emqx_lwm2m_xml_object_db
]).
%% The process of a start or of a stop.
-define(UNDER_WAY, lwm2m_gateway_emqx_under_way).
-define(OWN_NAMES, [lwm2m_gateway_emqx_keeper, lwm2m_gateway_emqx_owner]).
%% Named tables are gone a moment after the name of the process that owns them.
-define(TABLES, [
    emqx_gateway_lwm2m_channel,
    emqx_gateway_lwm2m_channel_conn,
    emqx_gateway_lwm2m_channel_info,
    emqx_gateway_lwm2m_locker,
    emqx_gateway_lwm2m_metrics,
    lwm2m_gateway_emqx_devices,
    lwm2m_object_def_tab,
    lwm2m_object_name_to_id_tab
]).

%% @doc A start or a stop begins: until its end, or that of its process, nobody mends anything.
-spec begin_change() -> ok.
begin_change() ->
    _ = (catch register(?UNDER_WAY, self())),
    ok.

-spec end_change() -> ok.
end_change() ->
    _ = (catch unregister(?UNDER_WAY)),
    ok.

%% @doc Puts `Module' in the place of the gateway that is there, whatever state that is in, and
%% loads it with the configuration that EMQX has for it. After an error there may be none at all;
%% {@link give_back/0} is next.
-spec take(module()) -> ok | {error, term()}.
take(Module) ->
    replace([{cbkmod, Module}, {schema, ?SCHEMA}]).

%% @doc Ends the gateway that is there, and returns when nothing is left of it. If EMQX does not let
%% go of it, ours ends all the same, and the error is returned.
-spec release() -> ok | {error, term()}.
release() ->
    case attempts(unload) of
        ok ->
            ok;
        {error, _} = Error ->
            ok = lwm2m_gateway_emqx_sup:kill(),
            _ = wait_or_kill(ours, ?PATIENCE),
            Error
    end.

%% @doc Puts the built-in gateway back. If it does not start with the configuration as it is now,
%% it is registered all the same, and the error is returned.
-spec give_back() -> ok | {error, term()}.
give_back() ->
    replace([{cbkmod, ?BUILT_IN}, {schema, ?SCHEMA}]).

%% @doc Whether the built-in gateway is in its place and runs, as far as it is wanted.
-spec is_given_back() -> boolean().
is_given_back() ->
    attempt(look) =:= true.

%% @doc Whether the node is on its way down: nobody needs a gateway any more.
-spec is_stopping() -> boolean().
is_stopping() ->
    element(1, init:get_status()) =:= stopping.

replace(Options) ->
    attempts({replace, Options}).

%% The order counts: unreg/1 of a loaded gateway would unload it from within the registry, and the
%% unloading asks the registry.
replace_once(Options) ->
    Config = emqx_conf:get([gateway, ?GATEWAY], undefined),
    case unload() of
        ok ->
            ok = emqx_gateway_registry:unreg(?GATEWAY),
            ok = emqx_gateway_registry:reg(?GATEWAY, Options),
            load(Config);
        {error, _} = Error ->
            Error
    end.

unload() ->
    case emqx_gateway:unload(?GATEWAY) of
        ok -> free(?PATIENCE);
        {error, not_found} -> free(?PATIENCE);
        {error, _} = Error -> Error
    end.

load(undefined) ->
    ok;
load(Config) ->
    case is_stopping() of
        true ->
            ok;
        false ->
            case emqx_gateway:load(?GATEWAY, Config) of
                {ok, _Pid} -> ok;
                {error, _} = Error -> Error
            end
    end.

%% Attempts.

attempts(Step) ->
    Pause = application:get_env(lwm2m_gateway, takeover_pause, ?PAUSE),
    attempts(Step, ?ATTEMPTS, Pause, deadline(?LIMIT)).

attempts(Step, Left, Pause, Until) ->
    case attempt(Step) of
        {error, Reason} = Error ->
            Late = erlang:monotonic_time(millisecond) + Pause > Until,
            case Left =< 1 orelse Late orelse is_final(Reason) orelse is_stopping() of
                true ->
                    Error;
                false ->
                    logger:warning(#{msg => "lwm2m_gateway_takeover_tried_again", reason => Reason}),
                    timer:sleep(Pause),
                    attempts(Step, Left - 1, 2 * Pause, Until)
            end;
        Result ->
            Result
    end.

%% EMQX's functions answer, exit (calls of processes), fail (matches in them) and throw.
attempt(Step) ->
    try
        step(Step)
    catch
        throw:Reason -> {error, Reason};
        exit:Reason -> {error, Reason};
        error:Reason -> {error, Reason}
    end.

step(unload) -> unload();
step({replace, Options}) -> replace_once(Options);
step(look) -> looks_given_back().

looks_given_back() ->
    Wanted = emqx_conf:get([gateway, ?GATEWAY], undefined) =/= undefined,
    case emqx_gateway_registry:lookup(?GATEWAY) of
        #{cbkmod := ?BUILT_IN} when Wanted -> emqx_gateway:lookup(?GATEWAY) =/= undefined;
        #{cbkmod := ?BUILT_IN} -> true;
        _ -> false
    end.

%% A mistake in the configuration stays one. That a port is taken may be a matter of the moment.
is_final({badconf, #{reason := Reason}}) ->
    Text = lwm2m_gateway_emqx_alarm:text(Reason),
    binary:match(Text, [<<"eaddrinuse">>, <<"already in use">>]) =:= nomatch;
is_final({badconf, _}) ->
    true;
is_final(_Reason) ->
    false.

%% Names.

%% Waits until the names are free. What does not end by itself belongs to nobody, unless somebody
%% has loaded the gateway again meanwhile: its supervisor is called like the gateway.
free(Patience) ->
    case wait_for(all, deadline(Patience)) of
        ok ->
            ok;
        {error, _} = Error ->
            case whereis(?GATEWAY) of
                undefined -> wait_or_kill(all, 0);
                _ -> Error
            end
    end.

wait_or_kill(Who, Patience) ->
    case wait_for(Who, deadline(Patience)) of
        ok ->
            ok;
        {error, _} ->
            Holders = holders(Who),
            logger:warning(#{
                msg => "lwm2m_gateway_leftovers_killed", names => maps:values(Holders)
            }),
            _ = [exit(Pid, kill) || Pid <- maps:keys(Holders)],
            wait_for(Who, deadline(?KILL_PATIENCE))
    end.

holders(all) ->
    Owners = [{Pid, Table} || Table <- ?TABLES, Pid <- [ets:info(Table, owner)], is_pid(Pid)],
    maps:merge(maps:from_list(Owners), named(?NAMES ++ ?OWN_NAMES));
holders(ours) ->
    named(?OWN_NAMES).

named(Names) ->
    maps:from_list([{Pid, Name} || Name <- Names, Pid <- [whereis(Name)], is_pid(Pid)]).

deadline(Milliseconds) ->
    erlang:monotonic_time(millisecond) + Milliseconds.

%% One that ends in this moment is waited for as well: its monitor tells when all of it is gone.
wait_for(Who, Until) ->
    case holders(Who) of
        None when map_size(None) =:= 0 ->
            ok;
        Holders ->
            Monitors = maps:from_list([
                {monitor(process, Pid), Name}
             || {Pid, Name} <- maps:to_list(Holders)
            ]),
            case downs(Monitors, Until) of
                ok -> wait_for(Who, Until);
                {error, _} = Error -> Error
            end
    end.

downs(Monitors, _Until) when map_size(Monitors) =:= 0 ->
    ok;
downs(Monitors, Until) ->
    receive
        {'DOWN', Monitor, process, _, _} when is_map_key(Monitor, Monitors) ->
            downs(maps:remove(Monitor, Monitors), Until)
    after max(0, Until - erlang:monotonic_time(millisecond)) ->
        _ = [demonitor(Monitor, [flush]) || Monitor <- maps:keys(Monitors)],
        {error, {names_taken, lists:sort(maps:values(Monitors))}}
    end.

%% Before a start EMQX loads the modules in the order of their names: this runs when those of the
%% plugin are loaded, and before the one with the library is. A library that a stop has left behind
%% would make that fail, this time and every time. EMQX 5.8 also loads the modules for a second start while
%% the first, or a stop, is under way: what is there then belongs to that one.
mend() ->
    Running = [whereis(Name) || Name <- [lwm2m_gateway_sup, ?UNDER_WAY]],
    case erlang:module_loaded(lwm2m_gateway_nif) andalso Running of
        [undefined, undefined] ->
            _ = (catch lwm2m_gateway_emqx_sup:kill_all()),
            _ = (catch lwm2m_gateway_app:unload()),
            ok;
        _NotLoadedOrRunning ->
            ok
    end.
