%% @doc The page of the plugin in the dashboard of EMQX 6.2 and later: files, and what they show. EMQX has
%% checked who asks, and lets viewers read only; nothing here changes anything.
-module(lwm2m_gateway_emqx_page).

-export([handle/3, here/1, merged/1]).

-export_type([answer/0]).

-type answer() :: {ok, 200, Headers :: #{binary() => iodata()}, Body :: binary() | map()} | {error, not_found}.

%% EMQX waits five seconds for the answer.
-define(TIMEOUT, 3_000).
-define(MAX_DEVICES, 100).
-define(MAX_SEARCH, 255).
-define(FILES, #{
    <<"page.js">> => <<"text/javascript; charset=utf-8">>, <<"page.css">> => <<"text/css; charset=utf-8">>
}).
%% Counters of each node that the page shows.
-define(COUNTERS, [
    registrations, observations, dtls_sessions, datagrams_received, datagrams_sent, publish_dropped
]).
-define(SHOWN, [
    endpoint, listener, lifetime, version, registered_at, idle_ms, observations, queued, queue_mode
]).

%% @doc A request below `/api/v5/plugin_api/lwm2m_gateway', as EMQX passes it on.
-spec handle(Method :: atom(), Path :: [binary()], Request :: map()) -> answer().
handle(get, [], Request) ->
    page(Request);
handle(get, [<<"ui">>], Request) ->
    page(Request);
handle(get, [<<"ui">>, <<"devices">>], Request) ->
    {ok, 200, headers(<<"application/json">>), overview(Request)};
handle(get, [<<"ui">>, Name], _Request) ->
    case ?FILES of
        #{Name := Type} -> file(Name, headers(Type));
        #{} -> {error, not_found}
    end;
handle(_Method, _Path, _Request) ->
    {error, not_found}.

page(Request) ->
    Frames =
        case console(Request) of
            #{state := served, url := Url, ancestors := [_ | _]} -> Url;
            #{} -> <<"'none'">>
        end,
    %% EMQX's dashboard shows it in a frame; nobody else may.
    Policy = [
        <<"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; frame-src ">>,
        Frames
    ],
    Headers = headers(<<"text/html; charset=utf-8">>),
    file(<<"page.html">>, Headers#{<<"content-security-policy">> => Policy}).

file(Name, Headers) ->
    case file:read_file(filename:join([code:priv_dir(lwm2m_gateway), "ui", Name])) of
        {ok, Bytes} -> {ok, 200, Headers, Bytes};
        {error, _} -> {error, not_found}
    end.

headers(Type) ->
    #{
        <<"content-type">> => Type,
        <<"cache-control">> => <<"no-store">>,
        <<"x-content-type-options">> => <<"nosniff">>
    }.

overview(Request) ->
    Search = binary:part(search(Request), 0, min(byte_size(search(Request)), ?MAX_SEARCH)),
    Nodes = [node() | nodes()],
    Views = erpc:multicall(Nodes, ?MODULE, here, [Search], ?TIMEOUT),
    (merged(lists:zip(Nodes, Views)))#{console => console(Request)}.

%% @private One view of what the nodes have told, or not.
-spec merged([{node(), {ok, map()} | {atom(), term()}}]) -> map().
merged(Views) ->
    {Shown, Left} = first(?MAX_DEVICES, lists:sort([
        {Endpoint, Device#{node => Node}}
     || {Node, {ok, #{devices := Devices}}} <- Views,
        #{endpoint := Endpoint} = Device <- Devices
    ])),
    #{
        nodes => [of_node(Node, View) || {Node, View} <- Views],
        devices => [Device || {_, Device} <- Shown],
        more => Left =/= [] orelse lists:any(fun has_more/1, Views)
    }.

search(#{query_string := #{<<"search">> := Search}}) when is_binary(Search) -> Search;
search(_Request) -> <<>>.

of_node(Node, {ok, #{counters := Counters}}) -> #{node => Node, state => running, counters => Counters};
of_node(Node, {ok, #{}}) -> #{node => Node, state => stopped};
of_node(Node, {error, {exception, undef, [{?MODULE, _, _, _} | _]}}) -> #{node => Node, state => without};
of_node(Node, _NoAnswer) -> #{node => Node, state => unreachable}.

has_more({_Node, {ok, #{more := More}}}) -> More;
has_more(_View) -> false.

%% @private What a node tells of itself. `Search' is a part of the names of its devices.
-spec here(Search :: binary()) -> map().
here(Search) ->
    case lwm2m_gateway_emqx_owner:gateway() of
        {ok, Gateway, _Http} ->
            {Names, Left} = first(?MAX_DEVICES, lwm2m_gateway_emqx_devices:endpoints(Search, ?MAX_DEVICES + 1)),
            #{
                counters => maps:with(?COUNTERS, lwm2m_gateway:statistics(Gateway)),
                %% Some are not registered yet, or not any more.
                devices => [shown(Info) || Name <- Names, {ok, Info} <- [lwm2m_gateway:device(Gateway, Name)]],
                more => Left =/= []
            };
        error ->
            #{}
    end.

shown(#{peer := {Host, Port}} = Info) ->
    Address =
        case Host of
            {_, _, _, _} -> inet:ntoa(Host);
            _ -> ["[", inet:ntoa(Host), "]"]
        end,
    (maps:with(?SHOWN, Info))#{peer => iolist_to_binary([Address, ":", integer_to_list(Port)])}.

first(Count, List) when length(List) =< Count -> {List, []};
first(Count, List) -> lists:split(Count, List).

%% Where the browser that asks finds the console of this node, which is the one it talks to.
console(Request) ->
    case lwm2m_gateway_emqx_owner:gateway() of
        {ok, _Gateway, refused} -> #{state => refused};
        {ok, _Gateway, served} -> console_at(maps:get(console, lwm2m_gateway_emqx_settings:current()), Request);
        error -> #{state => off}
    end.

console_at(undefined, _Request) ->
    #{state => off};
console_at(#{scheme := Scheme, host := Bound, port := Port, ancestors := Ancestors}, Request) ->
    case host(Bound, asked(Request)) of
        unknown ->
            #{state => local};
        Host ->
            Url = iolist_to_binary([Scheme, "://", Host, ":", integer_to_list(Port), "/"]),
            #{state => served, url => Url, ancestors => Ancestors}
    end.

%% A listener on all addresses is at the one that the browser has come to.
host(any, Asked) ->
    Asked;
host({loopback, _Bound}, <<"localhost">>) ->
    <<"localhost">>;
host({loopback, Bound}, Asked) when Asked =:= <<"127.0.0.1">>; Asked =:= <<"[::1]">> ->
    Bound;
host({loopback, _Bound}, _Asked) ->
    unknown;
host(Bound, _Asked) ->
    Bound.

%% What goes into a header is a name or an address, and nothing else.
asked(#{headers := #{<<"host">> := Host}}) when is_binary(Host) ->
    Pattern = "^([A-Za-z0-9.-]{1,253}|\\[[0-9a-fA-F:.]{2,45}\\])(:[0-9]{1,5})?$",
    case re:run(Host, Pattern, [dollar_endonly, {capture, [1], binary}]) of
        {match, [Name]} -> string:lowercase(Name);
        nomatch -> unknown
    end;
asked(_Request) ->
    unknown.
