%% @private The devices that have a process: endpoint, process, listener, and the publishes on their way to it.
%% The owner writes; everybody may read.
-module(lwm2m_gateway_emqx_devices).

-export([new/0, add/3, set_listener/2, take/1, pid/1, count/1, endpoints/2]).
-export([publishing/2, published/2]).

-define(DEVICES, lwm2m_gateway_emqx_devices).
-define(PENDING, 4).
%% Publishes on their way to one device; beyond, they are dropped and counted.
-define(MAX_PENDING, 2_000).
%% Names of devices that are looked at in one go.
-define(CHUNK, 1_000).

%% @doc The table; its owner is the caller.
-spec new() -> ok.
new() ->
    ?DEVICES = ets:new(?DEVICES, [
        named_table, public, set, {read_concurrency, true}, {write_concurrency, true}
    ]),
    ok.

-spec add(Endpoint :: binary(), pid(), Listener :: atom()) -> ok.
add(Endpoint, Pid, Listener) ->
    true = ets:insert(?DEVICES, {Endpoint, Pid, Listener, 0}),
    ok.

%% @doc Whether there is such a device.
-spec set_listener(Endpoint :: binary(), Listener :: atom()) -> boolean().
set_listener(Endpoint, Listener) ->
    ets:update_element(?DEVICES, Endpoint, {3, Listener}).

%% @doc Without it. Its process, and how many publishes will not reach that any more.
-spec take(Endpoint :: binary()) -> {pid(), non_neg_integer()} | none.
take(Endpoint) ->
    case ets:take(?DEVICES, Endpoint) of
        [{_, Pid, _, Waiting}] -> {Pid, Waiting};
        [] -> none
    end.

-spec pid(Endpoint :: binary()) -> pid() | none.
pid(Endpoint) ->
    case ets:lookup(?DEVICES, Endpoint) of
        [{_, Pid, _, _}] -> Pid;
        [] -> none
    end.

%% @doc One more publish is on its way to a device, unless it has too many already.
-spec publishing(Endpoint :: binary(), counters:counters_ref()) -> {ok, pid()} | full | none.
publishing(Endpoint, Pending) ->
    try ets:update_counter(?DEVICES, Endpoint, {?PENDING, 1}) of
        Waiting when Waiting =< ?MAX_PENDING ->
            counters:add(Pending, 1, 1),
            {ok, ets:lookup_element(?DEVICES, Endpoint, 2)};
        _ ->
            _ = ets:update_counter(?DEVICES, Endpoint, {?PENDING, -1}),
            full
    catch
        error:badarg -> none
    end.

%% @doc A device's process has dealt with a publish.
-spec published(Endpoint :: binary(), counters:counters_ref()) -> ok.
published(Endpoint, Pending) ->
    try
        _ = ets:update_counter(?DEVICES, Endpoint, {?PENDING, -1}),
        counters:sub(Pending, 1, 1)
    catch
        %% The owner has written the device off, and its publishes with it.
        error:badarg -> ok
    end.

%% @doc Devices of a listener.
-spec count(Listener :: atom()) -> non_neg_integer().
count(Listener) ->
    try
        ets:select_count(?DEVICES, [{{'_', '_', Listener, '_'}, [], [true]}])
    catch
        error:badarg -> 0
    end.

%% @doc The first names of devices, in their order, that contain `Part'; some may not be registered.
-spec endpoints(Part :: binary(), Max :: pos_integer()) -> [binary()].
endpoints(Part, Max) ->
    try
        endpoints(ets:select(?DEVICES, [{{'$1', '_', '_', '_'}, [], ['$1']}], ?CHUNK), Part, Max, [])
    catch
        error:badarg -> []
    end.

endpoints('$end_of_table', _Part, _Max, Found) ->
    Found;
endpoints({Names, Continuation}, Part, Max, Found) ->
    New = [Name || Name <- Names, Part =:= <<>> orelse binary:match(Name, Part) =/= nomatch],
    First = lists:sublist(lists:merge(Found, lists:sort(New)), Max),
    endpoints(ets:select(Continuation), Part, Max, First).
