%% @private Messages of a device to the broker, and commands to it.
-module(lwm2m_gateway_emqx_messages).

-export([command/4, deliver/3, deliver_held/1, properties/1, publish/5, uplink/6, without_wildcard/1]).

-include("lwm2m_gateway_emqx_device.hrl").

%% Commands that come before the registration stands.
-define(MAX_HELD, 100).

%% @doc Hands a message of a device to the broker. What fails there, in a route or a hook, costs
%% this message.
-spec publish(binary(), binary(), binary(), 0..2, Headers :: map()) -> ok | {error, term()}.
publish(Endpoint, Topic, Payload, QoS, Headers) ->
    try
        _ = emqx_broker:publish(
            emqx_message:make(Endpoint, QoS, Topic, Payload, #{retain => false}, Headers)
        ),
        ok
    catch
        Class:Reason:Stack ->
            logger:error(#{
                msg => "lwm2m_publish_failed",
                topic => Topic,
                reason => {Class, Reason},
                stacktrace => Stack
            }),
            {error, Reason}
    end.

%% @doc A message of the device. Also for a response topic of a command: it is the device that
%% publishes there.
-spec uplink(
    lwm2m_gateway:kind() | lost,
    Topic :: binary(),
    Payload :: binary(),
    QoS :: 0..2,
    lwm2m_gateway:properties(),
    state()
) -> state().
uplink(_Kind, Topic, Payload, QoS, Properties, #state{clientinfo = None} = State) when
    map_size(None) =:= 0
->
    %% It did not come back: what the gateway has to say of it.
    Headers = lwm2m_gateway_emqx_client:headers(Properties, #{}),
    _ = publish(State#state.endpoint, Topic, Payload, QoS, Headers),
    State;
uplink(Kind, Topic, Payload, QoS, Properties, #state{ctx = Ctx, clientinfo = ClientInfo} = State) ->
    Action = #{action_type => publish, qos => QoS, retain => false},
    ok = note_observation(Kind, Topic, Payload, State),
    case emqx_gateway_ctx:authorize(Ctx, ClientInfo, Action, Topic) of
        allow ->
            Headers = lwm2m_gateway_emqx_client:headers(Properties, State#state.headers),
            publish(State#state.endpoint, Topic, Payload, QoS, Headers) =:= ok orelse
                emqx_gateway_ctx:metrics_inc(Ctx, 'delivery.dropped'),
            counted(Kind, Payload, State#state{
                denied = false, results = results(Kind, Payload, State#state.results)
            });
        deny ->
            emqx_gateway_ctx:metrics_inc(Ctx, 'delivery.dropped'),
            %% Once, until it is allowed again.
            State#state.denied orelse
                logger:warning(
                    #{msg => "publish_denied", topic => Topic},
                    maps:with([clientid, username], ClientInfo)
                ),
            counted(Kind, Payload, State#state{
                denied = true, results = results(Kind, Payload, State#state.results)
            })
    end.

note_observation(response, Topic, Payload, #state{endpoint = Endpoint} = State) ->
    lwm2m_gateway_emqx_observed:answered(Endpoint, Payload, pair(Topic, State));
note_observation(notify, Topic, Payload, #state{endpoint = Endpoint} = State) ->
    lwm2m_gateway_emqx_observed:notified(Endpoint, Payload, pair(Topic, State));
note_observation(_Kind, _Topic, _Payload, _State) ->
    ok.

pair(Topic, #state{clientinfo = #{mountpoint := Mountpoint}}) ->
    case lwm2m_gateway_emqx_settings:current() of
        #{older := {Older, _}} when Topic =:= <<Mountpoint/binary, Older/binary>> -> older;
        #{} -> today
    end.

results(response, Payload, Results) -> lwm2m_gateway_emqx_results:answered(Payload, Results);
results(notify, Payload, Results) -> lwm2m_gateway_emqx_results:notified(Payload, Results);
results(_Kind, _Payload, Results) -> Results.

%% A registration and its updates are answered, which is not seen here otherwise. They are rare, so
%% the numbers are brought up to date with them.
counted(Kind, Payload, State) when Kind =:= register; Kind =:= update ->
    Counted = State#state{
        received = count(Payload, State#state.received), sent = count(<<>>, State#state.sent)
    },
    _ = lwm2m_gateway_emqx_channel:update_stats(Counted),
    Counted;
counted(_Kind, Payload, State) ->
    lwm2m_gateway_emqx_channel:ensure_stats(State#state{received = count(Payload, State#state.received)}).

count(Payload, {Messages, Bytes}) ->
    {Messages + 1, Bytes + byte_size(Payload)}.

%% @doc A message for the device. Before the registration stands the gateway would answer that there
%% is none.
-spec deliver(Topic :: binary(), Message :: term(), state()) -> state().
deliver(Topic, Message, #state{registering = Timer, held = Held} = State) when
    Timer =/= undefined, length(Held) < ?MAX_HELD
->
    State#state{held = [{Topic, Message} | Held]};
deliver(Topic, Message, #state{conn_state = connected, ctx = Ctx} = State) ->
    ok = lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'message.delivered', [State#state.clientinfo, Message]),
    emqx_gateway_ctx:metrics_inc(Ctx, 'messages.delivered'),
    case emqx_message:payload(Message) of
        %% Somebody clears a retained one.
        <<>> -> State;
        Payload -> command(Topic, Payload, properties(Message), State)
    end;
deliver(_Topic, _Message, #state{ctx = Ctx} = State) ->
    emqx_gateway_ctx:metrics_inc(Ctx, 'delivery.dropped'),
    State.

%% @doc Those that came before the registration stood.
-spec deliver_held(state()) -> state().
deliver_held(#state{held = Held} = State) ->
    lists:foldl(
        fun({Topic, Message}, To) -> deliver(Topic, Message, To) end,
        State#state{held = []},
        lists:reverse(Held)
    ).

%% @doc What of the message's properties counts, the Message-Expiry-Interval less the time since then.
-spec properties(Message :: term()) -> lwm2m_gateway:properties().
properties(Message) ->
    case emqx_message:get_header(properties, Message, #{}) of
        #{} = Properties ->
            maps:fold(fun(Key, Value, To) -> property(Key, Value, Message, To) end, #{}, Properties);
        _ ->
            #{}
    end.

property('Message-Expiry-Interval', Seconds, Message, To) ->
    Age = erlang:system_time(millisecond) - emqx_message:timestamp(Message),
    To#{expiry => max(0, Seconds - max(0, Age) div 1000)};
property('Response-Topic', Topic, _Message, To) ->
    To#{response_topic => Topic};
property('Correlation-Data', Data, _Message, To) ->
    To#{correlation_data => Data};
property(_Key, _Value, _Message, To) ->
    To.

%% @doc Hands a command to the gateway.
-spec command(Topic :: binary(), Payload :: binary(), lwm2m_gateway:properties(), state()) -> state().
command(Topic, Payload, Properties, State) ->
    #state{gateway = Gateway, endpoint = Endpoint, clientinfo = #{mountpoint := Mountpoint}} = State,
    case lwm2m_gateway:deliver_to(Gateway, Endpoint, Mountpoint, Topic, Payload, Properties) of
        ok -> ok;
        {error, stopped} -> emqx_gateway_ctx:metrics_inc(State#state.ctx, 'delivery.dropped')
    end,
    Results =
        case emqx_utils_json:safe_decode(Payload, [return_maps]) of
            {ok, #{} = Command} ->
                lwm2m_gateway_emqx_results:requested(Command, State#state.results);
            _ ->
                State#state.results
        end,
    Counted = State#state{sent = count(Payload, State#state.sent), results = Results},
    lwm2m_gateway_emqx_channel:ensure_stats(Counted).

%% @doc The topic of a command that a filter means.
-spec without_wildcard(Filter :: binary()) -> binary().
without_wildcard(Topic) ->
    case binary:split(Topic, [<<"/#">>, <<"/+">>, <<"#">>, <<"+">>]) of
        [Fixed | _] -> Fixed
    end.
