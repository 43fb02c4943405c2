%% The list of functions that the stand-in is made from.
-module(lwm2m_gateway_emqx_functions_tests).

-include_lib("eunit/include/eunit.hrl").

all_test_() ->
    {setup, fun() -> stand_in:load(stand_in:functions()) end, fun(_) -> ok end, [
        fun functions_are_those_called/0,
        fun functions_are_in_emqx/0,
        {timeout, 300, fun functions_are_in_the_sources/0}
    ]}.

%% The list of functions.

functions_are_those_called() ->
    Ebin = filename:join(os:getenv("APP"), "ebin"),
    Beams = filelib:wildcard(filename:join(Ebin, "*.beam")),
    Own = [list_to_atom(filename:basename(Beam, ".beam")) || Beam <- Beams],
    Called = lists:usort([
        Call
     || Beam <- Beams,
        {ok, {_, [{imports, Imports}]}} <- [beam_lib:chunks(Beam, [imports])],
        {Module, _, _} = Call <- Imports,
        not lists:member(Module, Own),
        is_emqx(atom_to_list(Module))
    ]),
    ?assertEqual(listed(), Called).

is_emqx("emqx" ++ _) -> true;
is_emqx("esockd" ++ _) -> true;
is_emqx(_) -> false.

listed() ->
    lists:usort(listed(before_5_9) ++ listed(since_5_9)).

listed(Version) ->
    [{M, F, A} || {M, Exports} <- stand_in:functions(Version), {F, A} <- Exports].

functions_are_in_emqx() ->
    case os:getenv("EMQX_HOME") of
        false ->
            ok;
        Home ->
            Version =
                case is_exported(Home, {emqx_plugins, update_config, 2}) of
                    true -> since_5_9;
                    false -> before_5_9
                end,
            ?assertEqual([], [Call || Call <- listed(Version), not is_exported(Home, Call)])
    end.

is_exported(Home, {Module, Function, Arity}) ->
    case filelib:wildcard(filename:join([Home, "lib", "*", "ebin", atom_to_list(Module) ++ ".beam"])) of
        [Beam | _] ->
            {ok, {_, [{exports, Exports}]}} = beam_lib:chunks(Beam, [exports]),
            lists:member({Function, Arity}, Exports);
        [] ->
            false
    end.

%% With EMQX_SOURCE, a clone of EMQX: in each version that docs/emqx.md names there are the functions,
%% the hooks and the fields of the configuration that we know.
functions_are_in_the_sources() ->
    case os:getenv("EMQX_SOURCE") of
        false -> ok;
        Source -> [in_source(Source, Version, Group) || {Version, Group} <- versions()]
    end.

versions() ->
    [
        {"v5.8.9", before_5_9},
        {"e5.9.3", since_5_9},
        {"e5.10.4", since_5_9},
        {"6.0.3", since_5_9},
        {"6.1.4", since_5_9},
        {"6.2.2", since_5_9},
        {"release-63", since_5_9}
    ].

in_source(Source, Version, Group) ->
    Files = string:lexemes(git(Source, ["ls-tree -r --name-only ", Version]), "\n"),
    Text = fun(Module) ->
        Name = "/src/" ++ atom_to_list(Module) ++ ".erl",
        %% Also in a folder below.
        case [F || F <- Files, filename:basename(F) =:= filename:basename(Name), string:find(F, "/src/") =/= nomatch] of
            [File | _] -> git(Source, ["show ", Version, ":", File]);
            [] -> ""
        end
    end,
    Missing = [
        {Module, Function, Arity}
     || {Module, Exports} <- stand_in:functions(Group),
        %% A library of its own.
        string:prefix(atom_to_list(Module), "esockd") =:= nomatch,
        Exported <- [exported(Text(Module))],
        {Function, Arity} <- Exports,
        not lists:member({Function, Arity}, Exported)
    ],
    ?assertEqual({Version, []}, {Version, Missing}),
    Has = fun(Module, Words) ->
        Whole = Text(Module),
        ?assertEqual({Version, Module, []}, {Version, Module, [W || W <- Words, string:find(Whole, W) =:= nomatch]})
    end,
    Has(emqx_hookpoints, [
        "'client.connect'", "'client.connack'", "'client.connected'", "'client.disconnected'",
        "'session.subscribed'", "'session.unsubscribed'", "'session.resumed'", "'session.takenover'",
        "'session.terminated'", "'session.created'", "'message.delivered'", "'message.dropped'", "'message.publish'"
    ]),
    Has(emqx_lwm2m_schema, [
        "{xml_dir,", "{lifetime_min,", "{lifetime_max,", "{qmode_time_window,", "{auto_observe,",
        "{update_msg_publish_condition,", "{translators,", "{mountpoint,", "{listeners,"
    ]),
    Has(emqx_gateway_impl, ["on_gateway_load(", "on_gateway_update(", "on_gateway_unload("]),
    Has(emqx_lwm2m_channel, ["{lookup_cmd, ", "{send_cmd, "]),
    %% The page in the dashboard: the callback, what it gets and may answer, and that a frame is let in.
    case lists:member(Version, ["6.2.2", "release-63"]) of
        true ->
            Has(emqx_plugins_apps, ["{on_handle_api_call, 4}, [Method, PathRemainder, Request, Context]"]),
            Has(emqx_plugins, ["map_plugin_api_result({ok, Status, Headers, Body})", "map_plugin_api_result({error, not_found})"]),
            Has(emqx_plugins_api_endpoint, [
                "query_string => QueryString", "headers => sanitize_headers(Headers)", "-define(DEFAULT_TIMEOUT, 5000)"
            ]),
            Has(emqx_dashboard, ["cookie_authorize(Req, HandlerInfo)", "\"/api/v5/plugin_api/\""]);
        false ->
            ok
    end.

git(Source, Arguments) ->
    os:cmd(lists:flatten(["git --git-dir='", Source, "' ", Arguments, " 2>/dev/null"])).

exported(Text) ->
    Plain = re:replace(Text, "%.*", "", [global, unicode, {return, list}]),
    case re:run(Plain, "-export\\(\\[([^\\]]*)\\]\\)", [global, unicode, {capture, [1], list}]) of
        {match, Lists} ->
            [
                {list_to_atom(string:trim(Name)), list_to_integer(string:trim(Arity))}
             || List <- lists:append(Lists),
                Export <- string:lexemes(List, ",\n "),
                [Name, Arity] <- [string:split(string:trim(Export, both, "'"), "/")]
            ];
        nomatch ->
            []
    end.
