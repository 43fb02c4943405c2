%% @doc Counters of the gateway among those that EMQX keeps for it (`emqx ctl gateway-metrics lwm2m'):
%% EMQX's own under its names, which have dots, and all of ours under theirs (docs/mqtt.md), which have
%% none. EMQX prints 30 characters of a name, so there is nothing in front of them.
-module(lwm2m_gateway_emqx_metrics).

-export([known/1, count/3, gone/2]).

-export_type([statistics/0]).

-type statistics() :: #{atom() => non_neg_integer()}.

%% Counters of the gateway that EMQX has a name for.
-define(OF_EMQX, [
    {datagrams_received, 'packets.coap.received'},
    {datagrams_sent, 'packets.coap.sent'},
    {bytes_received, 'bytes.received'},
    {bytes_sent, 'bytes.sent'},
    {publish_dropped, 'delivery.dropped'}
]).

%% Those that say how many there are now, beside the bytes of memory.
-define(GAUGES, [
    registrations, observations, dtls_sessions, store_failing, owner_queue, owner_queue_bytes, owner_unacknowledged
]).

%% @doc What EMQX has of a gateway before: one that crashed has left its gauges, while its counters
%% go on.
-spec known(Ctx :: map()) -> statistics().
known(#{gwname := Gateway}) ->
    try emqx_gateway_metrics:lookup(Gateway) of
        Metrics when is_list(Metrics) ->
            maps:from_list([Metric || {Name, _} = Metric <- Metrics, is_gauge(Name)]);
        undefined ->
            #{}
    catch
        _:_ -> #{}
    end.

%% @doc Adds what has changed.
-spec count(Ctx :: map(), Now :: statistics(), Former :: statistics()) -> ok.
count(Ctx, Now, Former) ->
    lists:foreach(
        fun({Ours, Theirs}) ->
            case maps:get(Ours, Now, 0) - maps:get(Ours, Former, 0) of
                More when More > 0 -> emqx_gateway_ctx:metrics_inc(Ctx, Theirs, More);
                _ -> ok
            end
        end,
        ?OF_EMQX
    ),
    maps:foreach(
        fun(Name, Value) ->
            case Former of
                #{Name := Value} -> ok;
                %% Also nought, so that all are in the list.
                #{} -> emqx_gateway_ctx:metrics_inc(Ctx, Name, Value - maps:get(Name, Former, 0))
            end
        end,
        Now
    ).

%% @doc There is no gateway any more: its gauges are nought.
-spec gone(Ctx :: map(), Former :: statistics()) -> ok.
gone(Ctx, Former) ->
    Gauges = maps:filter(fun(Name, Value) -> Value =/= 0 andalso is_gauge(Name) end, Former),
    try
        count(Ctx, maps:map(fun(_, _) -> 0 end, Gauges), Gauges)
    catch
        %% EMQX has forgotten all of it.
        _:_ -> ok
    end.

is_gauge(Name) ->
    lists:member(Name, ?GAUGES) orelse is_bytes(atom_to_list(Name)).

is_bytes("memory_refused_" ++ _) -> false;
is_bytes("memory_" ++ _) -> true;
is_bytes(_) -> false.
