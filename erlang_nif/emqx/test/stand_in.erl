%% @doc A stand-in for EMQX: its modules, made from `emqx_functions.eterm', call
%% {@link call/3}, which does what EMQX does as far as the plugin can tell. Every call is
%% recorded.
-module(stand_in).

-export([data_dir/0]).
-export([functions/0, functions/1, load/1, load_modules/1, reset/0, set/2, unset/1, calls/0, calls/1]).
-export([clients/0, client/1, subscriptions/0, published/0, publish/2, publish/3, listeners/0]).
-export([alarms/0, forget/0, state/0, fail/3, heal/1, start_plugin/0, plugin_api/3]).
-export([call/3]).

-define(TABLE, stand_in).
-define(LOCKER, emqx_gateway_lwm2m_locker).

%% Those of EMQX 5.8.
functions() ->
    functions(before_5_9).

functions(Version) ->
    {ok, Terms} = file:consult(filename:join(filename:dirname(code:which(?MODULE)), "emqx_functions.eterm")),
    [{Module, Exports} || {Module, Exports} <- Terms] ++
        [{Module, Exports} || {Module, Exports, V} <- Terms, V =:= Version].

%% Makes and loads the modules.
load(Functions) ->
    load_modules(Functions),
    lists:foreach(
        fun(App) ->
            _ = application:load({application, App, [{vsn, "0"}, {applications, []}, {modules, []}]}),
            _ = application:start(App)
        end,
        [emqx, emqx_gateway]
    ).

load_modules(Functions) ->
    lists:foreach(
        fun({Module, Exports}) ->
            Forms = [
                {attribute, 1, module, Module},
                {attribute, 1, export, Exports}
                | [function(Module, Function, Arity) || {Function, Arity} <- Exports]
            ],
            {ok, Module, Beam} = compile:forms(Forms),
            {module, Module} = code:load_binary(Module, "stand-in", Beam)
        end,
        Functions
    ).

function(Module, Function, Arity) ->
    Variables = [{var, 1, list_to_atom("A" ++ integer_to_list(N))} || N <- lists:seq(1, Arity)],
    List = lists:foldr(fun(V, Tail) -> {cons, 1, V, Tail} end, {nil, 1}, Variables),
    Arguments = [{atom, 1, Module}, {atom, 1, Function}, List],
    Body = {call, 1, {remote, 1, {atom, 1, ?MODULE}, {atom, 1, call}}, Arguments},
    {function, 1, Function, Arity, [{clause, 1, Variables, [], [Body]}]}.

%% As EMQX 5.8 starts a plugin that does not run: every module is loaded anew, in the order of the names.
start_plugin() ->
    %% Who asks while it is being stopped waits here; who asks while it is being started does not.
    case lists:keymember(lwm2m_gateway, 1, application:which_applications(infinity)) of
        true -> ok;
        false -> load_plugin()
    end,
    application:ensure_all_started(lwm2m_gateway).

load_plugin() ->
    Beams = filelib:wildcard(filename:join([os:getenv("APP"), "ebin", "*.beam"])),
    lists:foreach(
        fun(Beam) ->
            Module = list_to_atom(filename:basename(Beam, ".beam")),
            _ = code:purge(Module),
            {module, Module} = code:load_file(Module)
        end,
        Beams
    ).

%% A request to the plugin's part of the API, as `emqx_plugins_api_endpoint' and `emqx_plugins' of EMQX 6.2
%% pass it on: to the module called like the application, if that is loaded and exports the function, in
%% a process of its own, for five seconds; without the headers with secrets. What minirest can send is a
%% map, as JSON, or bytes.
plugin_api(Method, Url, Headers) ->
    #{path := Path} = Parts = uri_string:parse(Url),
    Query = maps:from_list(uri_string:dissect_query(maps:get(query, Parts, <<>>))),
    Segments = [uri_string:percent_decode(S) || S <- binary:split(Path, <<"/">>, [global, trim_all])],
    Request = #{
        method => Method, query_string => Query, body => #{},
        headers => maps:without([<<"authorization">>, <<"cookie">>], Headers)
    },
    Context = #{auth_meta => #{auth_type => jwt_token, source => <<"admin">>}, namespace => global_ns},
    case erlang:function_exported(lwm2m_gateway_app, on_handle_api_call, 4) of
        false -> {404, #{}, #{}};
        true -> plugin_api_answer(Method, Segments, Request, Context)
    end.

plugin_api_answer(Method, Segments, Request, Context) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        exit({answer, lwm2m_gateway_app:on_handle_api_call(Method, Segments, Request, Context)})
    end),
    receive
        {'DOWN', Monitor, process, Pid, {answer, {ok, Status, Headers, Body}}} ->
            Texts = maps:from_list([{K, iolist_to_binary(V)} || {K, V} <- maps:to_list(Headers)]),
            {Status, Texts, sendable(Body)};
        {'DOWN', Monitor, process, Pid, {answer, {error, not_found}}} ->
            {404, #{}, #{}};
        {'DOWN', Monitor, process, Pid, Reason} ->
            {500, #{}, Reason}
    after 5000 ->
        true = exit(Pid, kill),
        {503, #{}, #{}}
    end.

sendable(Body) when is_binary(Body) -> Body;
sendable(Body) when is_map(Body) -> stand_in_json:decode(iolist_to_binary(stand_in_json:encode(Body))).

%% A broker without clients, with the built-in gateway running.
reset() ->
    _ = stop_tree(),
    wait_for_locker(),
    catch ets:delete(?TABLE),
    _ = file:del_dir_r(data_dir()),
    Owner = self(),
    Keeper = spawn(fun() ->
        ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set]),
        Owner ! {self(), ready},
        receive stop -> ok end
    end),
    receive {Keeper, ready} -> ok end,
    true = ets:insert(?TABLE, [
        {keeper, Keeper},
        {{registry, lwm2m}, emqx_gateway_lwm2m},
        {{loaded, lwm2m}, self()},
        {plugin_config, #{}}
    ]),
    start_tree().

data_dir() ->
    filename:join(os:getenv("PACKAGE"), "data").

%% `config', `plugin_config' (`unset/1' is a file that cannot be read), `version', or the answer of a
%% function: a value or a fun.
set(Key, Value) ->
    true = ets:insert(?TABLE, {Key, Value}),
    ok.

unset(Key) ->
    true = ets:delete(?TABLE, Key),
    ok.

get(Key, Default) ->
    try ets:lookup_element(?TABLE, Key, 2)
    catch error:badarg -> Default
    end.

%% The next `Times' calls of a function do `How' instead, which gets what they would have done.
fail(_Function, 0, _How) ->
    ok;
fail(Function, Times, How) when is_function(How, 1) ->
    set({fail, Function}, {Times, How}).

heal(Function) ->
    true = ets:delete(?TABLE, {fail, Function}),
    ok.

%% Whose the gateway is, and whether it is loaded.
state() ->
    {get({registry, lwm2m}, undefined), get({loaded, lwm2m}, undefined) =/= undefined}.

calls() ->
    [Call || {{call, _}, Call} <- ets:tab2list(?TABLE)].

calls(Module) ->
    [{Function, Arguments} || {M, Function, Arguments} <- calls(), M =:= Module].

clients() ->
    [{ClientId, Info} || {{info, {ClientId, _}}, Info, _} <- ets:tab2list(?TABLE)].

client(ClientId) ->
    case ets:lookup(?TABLE, {channel, ClientId}) of
        [{_, Pid}] -> Pid;
        [] -> undefined
    end.

subscriptions() ->
    [{Filter, ClientId, Options} || {{subscription, Filter, _}, ClientId, Options} <- ets:tab2list(?TABLE)].

published() ->
    [Message || {publish, [Message]} <- calls(emqx_broker)].

%% An application publishes.
publish(Topic, Payload) ->
    publish(Topic, Payload, #{}).

publish(Topic, Payload, Headers) ->
    Message = call(emqx_message, make, [<<"application">>, 0, Topic, Payload, #{}, Headers]),
    hooked('message.publish', [Message]),
    case [{Pid, Filter} || {{subscription, Filter, Pid}, _, _} <- ets:tab2list(?TABLE), matches(Filter, Topic)] of
        [] -> hooked('message.dropped', [Message, #{node => node()}, no_subscribers]);
        To -> [Pid ! {deliver, Filter, Message} || {Pid, Filter} <- To]
    end.

hooked(Name, Arguments) ->
    case ets:lookup(?TABLE, {hook, Name}) of
        [{_, Module, Function}] -> ok = apply(Module, Function, Arguments);
        [] -> ok
    end.

matches(Filter, Topic) ->
    case binary:split(Filter, <<"/#">>) of
        [Prefix, <<>>] -> string:prefix(Topic, Prefix) =/= nomatch;
        [Topic] -> true;
        _ -> false
    end.

listeners() ->
    [Name || {{listener, Name}, _} <- ets:tab2list(?TABLE)].

alarms() ->
    [{Name, Reason} || [Name, #{reason := Reason}] <- ets:match(?TABLE, {{alarm, '$1'}, '$2', '_'})].

%% The calls so far.
forget() ->
    true = ets:match_delete(?TABLE, {{call, '_'}, '_'}),
    ok.

call(Module, Function, Arguments) ->
    Key = {call, erlang:unique_integer([monotonic])},
    Recorded = {Module, Function, Arguments},
    lists:member(Module, [emqx_utils_json, emqx_release]) orelse ets:insert(?TABLE, {Key, Recorded}),
    case get({fail, {Module, Function}}, undefined) of
        undefined ->
            answer(Module, Function, Arguments);
        {Times, How} ->
            true = ets:delete(?TABLE, {fail, {Module, Function}}),
            ok = fail({Module, Function}, Times - 1, How),
            How(fun() -> answer(Module, Function, Arguments) end)
    end.

answer(Module, Function, Arguments) ->
    case get({Module, Function}, undefined) of
        undefined -> do(Module, Function, Arguments);
        Answer when is_function(Answer, length(Arguments)) -> apply(Answer, Arguments);
        Answer -> Answer
    end.

do(emqx, data_dir, []) -> data_dir();
do(emqx_conf, get, [[gateway, lwm2m], Default]) -> get(config, Default);
do(emqx_conf, get, [[psk_authentication, enable], Default]) -> Default;
%% Of a name that begins with `${VARIABLE}/'.
do(emqx_schema, naive_env_interpolation, [<<"${", Rest/binary>>]) ->
    [Variable, File] = binary:split(Rest, <<"}/">>),
    filename:join(os:getenv(binary_to_list(Variable)), binary_to_list(File));
do(emqx_schema, naive_env_interpolation, [File]) -> File;
do(emqx_release, version, []) -> get(version, "5.8.9");
do(emqx_plugins, get_config, [_, config_format_map, Default]) -> {ok, get(plugin_config, Default)};
do(emqx_plugins, get_config, [_, Default]) -> get(plugin_config, Default);
do(emqx_plugins, put_config, [_, Config, _]) ->
    _ = lwm2m_gateway_app:on_config_changed(get(plugin_config, #{}), Config),
    set(plugin_config, Config);
do(emqx_plugins, update_config, [_, Config]) ->
    case lwm2m_gateway_app:on_config_changed(get(plugin_config, #{}), Config) of
        ok -> set(plugin_config, Config);
        {error, _} = Error -> Error
    end;
%% An active alarm keeps its reason.
do(emqx_alarm, activate, [Name, Details, Message]) ->
    case ets:insert_new(?TABLE, {{alarm, Name}, Details, Message}) of
        true -> ok;
        false -> {error, already_existed}
    end;
do(emqx_alarm, ensure_deactivated, [Name]) ->
    true = ets:delete(?TABLE, {alarm, Name}),
    ok;
%% The registry and the gateways. In EMQX unregistering a loaded gateway locks up.
do(emqx_gateway_registry, reg, [Name, Options]) ->
    case get({registry, Name}, undefined) of
        undefined ->
            set({registry, Name}, proplists:get_value(cbkmod, Options));
        _ ->
            {error, already_existed}
    end;
do(emqx_gateway_registry, unreg, [Name]) ->
    undefined = whereis(Name),
    true = ets:delete(?TABLE, {registry, Name}),
    ok;
do(emqx_gateway_registry, lookup, [Name]) ->
    case get({registry, Name}, undefined) of
        undefined -> undefined;
        Module -> #{cbkmod => Module}
    end;
do(emqx_gateway, lookup, [Name]) ->
    case get({loaded, Name}, undefined) of
        undefined -> undefined;
        _ -> #{name => Name}
    end;
%% By one process after the other, as a supervisor does it.
do(emqx_gateway, Change, Arguments) when Change =:= load; Change =:= unload ->
    global:trans({?MODULE, self()}, fun() -> change(Change, Arguments) end, [node()]);
%% The client registry.
do(emqx_gateway_ctx, authenticate, [_, ClientInfo]) ->
    {ok, ClientInfo#{auth_expire_at => undefined}};
do(emqx_gateway_ctx, authorize, _) ->
    allow;
do(emqx_gateway_ctx, connection_expire_interval, [_, #{auth_expire_at := At}]) ->
    case At of
        undefined -> undefined;
        _ -> max(0, At - erlang:system_time(millisecond))
    end;
do(emqx_gateway_ctx, open_session, [_, false, #{clientid := ClientId} = Info, ConnInfo, New, Module]) ->
    #{conn_mod := ConnMod} = ConnInfo,
    Session =
        case client(ClientId) of
            undefined ->
                New(Info, ConnInfo);
            Pid ->
                Taken = Module:resume(Info, ConnMod:call(Pid, {takeover, 'begin'}, 5000)),
                [] = ConnMod:call(Pid, {takeover, 'end'}, 5000),
                Taken
        end,
    ok = set({channel, ClientId}, self()),
    {ok, #{session => Session, present => false}};
do(emqx_gateway_ctx, insert_channel_info, [_, ClientId, Info, Stats]) ->
    true = ets:insert(?TABLE, {{info, {ClientId, self()}}, Info, Stats}),
    ok;
do(emqx_gateway_ctx, set_chan_info, [_, ClientId, Info]) ->
    ets:update_element(?TABLE, {info, {ClientId, self()}}, {2, Info});
do(emqx_gateway_ctx, set_chan_stats, [_, ClientId, Stats]) ->
    ets:update_element(?TABLE, {info, {ClientId, self()}}, {3, Stats});
do(emqx_gateway_ctx, metrics_inc, [Ctx, Name]) ->
    do(emqx_gateway_ctx, metrics_inc, [Ctx, Name, 1]);
do(emqx_gateway_ctx, metrics_inc, [_, Name, Count]) ->
    _ = ets:update_counter(?TABLE, {metric, Name}, {2, Count}, {{metric, Name}, 0}),
    ok;
do(emqx_gateway_metrics, lookup, [lwm2m]) ->
    [{Name, Value} || [Name, Value] <- ets:match(?TABLE, {{metric, '$1'}, '$2'})];
do(emqx_gateway_cm, lookup_channels, [_, ClientId]) ->
    [Pid || Pid <- [client(ClientId)], is_pid(Pid)];
do(emqx_gateway_cm, get_chan_info, [_, ClientId, Pid]) ->
    case ets:lookup(?TABLE, {info, {ClientId, Pid}}) of
        [{_, Info, _}] -> Info;
        [] -> undefined
    end;
do(emqx_gateway_cm, unregister_channel, [_, ClientId]) ->
    true = ets:match_delete(?TABLE, {{channel, ClientId}, self()}),
    true = ets:delete(?TABLE, {info, {ClientId, self()}}),
    ok;
%% The broker.
do(emqx_broker, subscribe, [Filter, ClientId, Options]) ->
    true = ets:insert(?TABLE, {{subscription, Filter, self()}, ClientId, Options}),
    ok;
do(emqx_broker, unsubscribe, [Filter]) ->
    true = ets:delete(?TABLE, {subscription, Filter, self()}),
    ok;
do(emqx_broker, publish, [_]) ->
    [];
do(emqx_message, make, [From, QoS, Topic, Payload, Flags, Headers]) ->
    #{from => From, qos => QoS, topic => Topic, payload => Payload, flags => Flags,
      headers => Headers, timestamp => erlang:system_time(millisecond)};
do(emqx_message, payload, [#{payload := Payload}]) -> Payload;
do(emqx_message, timestamp, [#{timestamp := Timestamp}]) -> Timestamp;
do(emqx_message, get_header, [Key, #{headers := Headers}, Default]) -> maps:get(Key, Headers, Default);
do(emqx_mountpoint, mount, [Mountpoint, Topic]) -> <<Mountpoint/binary, Topic/binary>>;
do(emqx_gateway_utils, default_subopts, []) -> #{rh => 1, rap => 0, nl => 0, qos => 0, is_new => true};
do(emqx_logger, set_metadata_clientid, [ClientId]) ->
    logger:update_process_metadata(#{clientid => ClientId});
do(emqx_logger, set_metadata_peername, [Peer]) ->
    logger:update_process_metadata(#{peername => Peer});
do(emqx_hooks, add, [Name, {Module, Function, []}, _]) ->
    case ets:insert_new(?TABLE, {{hook, Name}, Module, Function}) of
        true -> ok;
        false -> {error, already_exists}
    end;
do(emqx_hooks, del, [Name, {_, _}]) ->
    true = ets:delete(?TABLE, {hook, Name}),
    ok;
do(emqx_router, match_routes, [Topic]) ->
    [{route, Filter, node()} || {{subscription, Filter, _}, _, _} <- ets:tab2list(?TABLE), matches(Filter, Topic)];
do(emqx_gateway_cm, register_channel, [_, ClientId, Pid, _]) ->
    set({channel, ClientId}, Pid);
do(emqx_message, topic, [#{topic := Topic}]) -> Topic;
do(emqx_message, get_flag, [Flag, #{flags := Flags}, Default]) -> maps:get(Flag, Flags, Default);
do(emqx_hooks, run, _) -> ok;
do(emqx_hooks, run_fold, [_, _, Acc]) -> Acc;
do(emqx_tls_psk, lookup, _) -> error;
do(emqx_utils_json, encode, [Term]) -> stand_in_json:encode(Term);
do(emqx_utils_json, safe_decode, [Text, [return_maps]]) ->
    try {ok, stand_in_json:decode(Text)}
    catch _:Reason -> {error, Reason}
    end;
do(emqx_lwm2m_xml_object_db, start_link, [_]) -> {error, no_xml_files_found};
do(emqx_lwm2m_xml_object, get_obj_def, _) -> {error, no_xml_definition};
%% esockd.
do(emqx_listeners, esockd_access_rules, [Rules]) ->
    [{list_to_atom(hd(string:lexemes(Rule, " "))), lists:last(string:lexemes(Rule, " "))} || Rule <- Rules];
do(esockd, format, [{Host, Port}]) ->
    inet:ntoa(Host) ++ ":" ++ integer_to_list(Port);
do(esockd_access, compile, [{Action, Address}]) ->
    {ok, Parsed} = inet:parse_address(Address),
    {Action, Parsed};
do(esockd_access, match, [Address, Rules]) ->
    case lists:keyfind(Address, 2, Rules) of
        {Action, _} -> {matched, Action};
        false -> nomatch
    end;
do(esockd_sup, child_id, [Name, ListenOn]) -> {listener_sup, {Name, ListenOn}};
do(esockd_sup, start_child, [#{id := {listener_sup, Name}, start := {M, F, A}, modules := [M]}]) ->
    case ets:lookup(?TABLE, {listener, Name}) of
        [{_, Pid}] ->
            {error, {already_started, Pid}};
        [] ->
            {ok, Pid} = apply(M, F, A),
            true = unlink(Pid),
            ok = set({listener, Name}, Pid),
            {ok, Pid}
    end;
do(esockd, close, [Name, ListenOn]) ->
    case ets:take(?TABLE, {listener, {Name, ListenOn}}) of
        [{_, Pid}] -> exit(Pid, kill), ok;
        [] -> {error, not_found}
    end.

change(load, [Name, Config]) ->
    ok = case whereis(Name) of
        undefined -> start_tree();
        _ -> ok
    end,
    case {get({registry, Name}, undefined), get({loaded, Name}, undefined)} of
        {undefined, _} -> {error, {unknown_gateway_name, Name}};
        {emqx_gateway_lwm2m, undefined} -> {set({loaded, Name}, self()), self()};
        {Module, undefined} -> load(Name, Module, Config);
        {_, _} -> {error, alredy_existed}
    end;
change(unload, [Name]) ->
    case {whereis(Name), get({loaded, Name}, undefined)} of
        {undefined, _} ->
            {error, not_found};
        {_, Instance} ->
            true = ets:delete(?TABLE, {loaded, Name}),
            case get({registry, Name}, undefined) of
                _ when Instance =:= undefined ->
                    ok;
                emqx_gateway_lwm2m ->
                    ok;
                _ ->
                    Instance ! {unload, self()},
                    receive {Instance, unloaded} -> ok end
            end,
            stop_tree()
    end.

%% The processes of a loaded gateway: supervisor, `emqx_gateway_cm', and the `ekka_locker' that the
%% latter is linked to. The supervisor waits for the end of the second, nobody for that of the third.
start_tree() ->
    case whereis(?LOCKER) of
        undefined -> ok;
        Holder -> error({badmatch, {error, {already_started, Holder}}})
    end,
    Linger = get(linger, 0),
    Caller = self(),
    Supervisor = spawn(fun() ->
        %% Of the plugin that asked it would be killed when that ends.
        true = group_leader(whereis(init), self()),
        true = register(lwm2m, self()),
        Self = self(),
        {Cm, Monitor} = spawn_monitor(fun() -> cm(Self, Linger) end),
        receive {Cm, ready} -> ok end,
        Caller ! {self(), ready},
        receive
            {stop, From} ->
                true = exit(Cm, shutdown),
                receive {'DOWN', Monitor, process, Cm, _} -> ok end,
                true = unregister(lwm2m),
                From ! {self(), stopped}
        end
    end),
    receive {Supervisor, ready} -> ok end.

cm(Supervisor, Linger) ->
    true = register(emqx_gateway_lwm2m_cm, self()),
    Self = self(),
    Locker = spawn_link(fun() -> locker(Self, Linger) end),
    receive {Locker, ready} -> ok end,
    Supervisor ! {self(), ready},
    receive never -> ok end.

%% Table and process have the same name, as EMQX's have.
locker(Cm, Linger) ->
    _ = process_flag(trap_exit, true),
    true = register(?LOCKER, self()),
    ?LOCKER = ets:new(?LOCKER, [named_table]),
    Cm ! {self(), ready},
    receive {'EXIT', Cm, _} -> ok end,
    receive after Linger -> ok end.

stop_tree() ->
    case whereis(lwm2m) of
        undefined ->
            {error, not_found};
        Supervisor ->
            Supervisor ! {stop, self()},
            receive {Supervisor, stopped} -> ok end
    end.

wait_for_locker() ->
    case whereis(?LOCKER) of
        undefined -> ok;
        _ -> timer:sleep(1), wait_for_locker()
    end.

%% As emqx_gateway_insta_sup: callbacks run in a process that traps exits.
load(Name, Module, Config) ->
    Caller = self(),
    {Instance, Monitor} = spawn_monitor(fun() ->
        true = group_leader(whereis(init), self()),
        process_flag(trap_exit, true),
        try Module:on_gateway_load(#{name => Name, config => Config}, #{gwname => Name, cm => self()}) of
            {ok, [Pid | _], State} when is_pid(Pid) ->
                Caller ! {self(), loaded},
                instance(Module, Name, Config, State)
        catch
            _:Reason -> exit({failed, Reason})
        end
    end),
    receive
        {Instance, loaded} ->
            true = demonitor(Monitor, [flush]),
            ok = set({loaded, Name}, Instance),
            {ok, Instance};
        {'DOWN', Monitor, process, Instance, {failed, Reason}} ->
            {error, Reason}
    end.

instance(Module, Name, Config, State) ->
    receive
        {unload, Caller} ->
            ok = Module:on_gateway_unload(#{name => Name, config => Config}, State),
            Caller ! {self(), unloaded};
        {update, Caller, New} ->
            case Module:on_gateway_update(New, #{name => Name, config => Config}, State) of
                {ok, _, Next} ->
                    Caller ! {self(), ok},
                    instance(Module, Name, New, Next);
                {error, _} = Error ->
                    Caller ! {self(), Error},
                    instance(Module, Name, Config, State)
            end;
        {'EXIT', _, _} ->
            instance(Module, Name, Config, State)
    end.
