%% @private What runs while the gateway is loaded. A child of EMQX's gateway instance.
-module(lwm2m_gateway_emqx_sup).
-behaviour(supervisor).

-export([start_link/2, stop/1, kill/0, kill_all/0, init/1, definitions/1]).

%% EMQX gives the gateway five seconds to unload.
-define(STOP_TIMEOUT, 4500).

-spec start_link(map(), map()) -> {ok, pid()} | {error, term()}.
start_link(Config, Ctx) ->
    case supervisor:start_link(?MODULE, {Config, Ctx}) of
        {ok, _} = Started -> Started;
        {error, {shutdown, {failed_to_start_child, _, Reason}}} -> {error, Reason};
        {error, _} = Error -> Error;
        ignore -> {error, ignore}
    end.

-spec stop(pid()) -> ok.
stop(Supervisor) ->
    true = unlink(Supervisor),
    Monitor = monitor(process, Supervisor),
    true = exit(Supervisor, shutdown),
    receive
        {'DOWN', Monitor, process, Supervisor, _} -> ok
    after ?STOP_TIMEOUT ->
        true = exit(Supervisor, kill),
        ok
    end.

%% @doc Ends the supervisor that runs, if there is one, though its parent does not: its children end
%% as they do otherwise, which is not waited for.
-spec kill() -> ok.
kill() ->
    kill(running()).

%% @doc Ends all of it at once.
-spec kill_all() -> ok.
kill_all() ->
    %% The first would start the second again, and that the third.
    ok = kill(running()),
    ok = kill(whereis(lwm2m_gateway_emqx_keeper)),
    kill(whereis(lwm2m_gateway_emqx_owner)).

kill(undefined) ->
    ok;
kill(Pid) ->
    Monitor = monitor(process, Pid),
    true = exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

%% The parent of the keeper. It has no name of its own.
running() ->
    Keeper = whereis(lwm2m_gateway_emqx_keeper),
    case is_pid(Keeper) andalso process_info(Keeper, dictionary) of
        {dictionary, Dictionary} ->
            case lists:keyfind('$ancestors', 1, Dictionary) of
                {_, [Parent | _]} when is_pid(Parent) -> Parent;
                _ -> undefined
            end;
        _ ->
            undefined
    end.

init({Config, Ctx}) ->
    Definitions = #{
        id => definitions,
        start => {?MODULE, definitions, [Config]},
        restart => temporary,
        shutdown => 1000
    },
    Keeper = #{
        id => keeper,
        start => {lwm2m_gateway_emqx_keeper, start_link, [Config, Ctx]},
        restart => permanent,
        shutdown => 4000
    },
    %% It outlives the owner.
    Observed = #{id => observed, start => {lwm2m_gateway_emqx_observed, start_link, []}},
    {ok, {#{strategy => one_for_one, intensity => 5, period => 60}, [Definitions, Observed, Keeper]}}.

%% @private The object definitions that EMQX's HTTP API looks names of resources up in; the gateway
%% itself does without. EMQX takes a directory without files for an error.
definitions(Config) ->
    Own = filename:join(code:priv_dir(lwm2m_gateway), "lwm2m_xml"),
    Directories = [Dir || {ok, Dir} <- [maps:find(xml_dir, Config)]] ++ [Own],
    first(Directories).

first([]) ->
    ignore;
first([Directory | Others]) ->
    Trap = process_flag(trap_exit, true),
    Result = (catch emqx_lwm2m_xml_object_db:start_link(text(Directory))),
    _ = process_flag(trap_exit, Trap),
    case Result of
        {ok, _} -> Result;
        _ -> first(Others)
    end.

text(Directory) -> unicode:characters_to_list(Directory).
