%% @doc What EMQX knows of a client, made of what the gateway says of a device.
-module(lwm2m_gateway_emqx_client).

-export([connection/2, is_mountpoint/1, lifetime/2, headers/1, headers/2, session/2, stats/3]).

-export_type([traffic/0]).

%% The gateway takes no longer one.
-define(MAX_MOUNTPOINT, 1024).

-type traffic() :: {Messages :: non_neg_integer(), Bytes :: non_neg_integer()}.

%% @doc Connection and client as EMQX has them, or why the address may not come in.
-spec connection(lwm2m_gateway:registration_request() | lwm2m_gateway:device_info(), module()) ->
    {ConnInfo :: map(), ClientInfo :: map()} | {deny, binary()}.
connection(
    #{endpoint := Endpoint, peer := {Host, _} = Peer, listener := Listener} = Request,
    Module
) ->
    #{lifetime := Granted, version := Version, query := Query} = Request,
    Settings = maps:get(Listener, maps:get(listeners, lwm2m_gateway_emqx_settings:current()), #{}),
    case allowed(Host, maps:get(access_rules, Settings, [])) of
        false ->
            {deny, <<"address not allowed">>};
        true ->
            {ClientId, Username} = names(Request, Settings),
            {_, Port} = Sockname = lwm2m_gateway_emqx_settings:address(Listener),
            ConnInfo = #{
                socktype => socktype(Settings),
                peername => Peer,
                sockname => Sockname,
                peercert => undefined,
                conn_mod => Module,
                clientid => ClientId,
                %% Rules about `client.connack' want it.
                username => Username,
                proto_name => <<"LwM2M">>,
                proto_ver => Version,
                clean_start => true,
                keepalive => lifetime(Query, Granted),
                expiry_interval => 0,
                connected_at => erlang:system_time(millisecond)
            },
            ClientInfo = #{
                zone => default,
                listener => maps:get(id, Settings, undefined),
                protocol => lwm2m,
                peerhost => Host,
                peername => Peer,
                sockport => Port,
                username => Username,
                password => query(<<"password">>, Query, undefined),
                clientid => ClientId,
                endpoint_name => Endpoint,
                lifetime => lifetime(Query, Granted),
                is_bridge => false,
                is_superuser => false,
                enable_authn => maps:get(enable_authn, Settings, true)
            },
            Mountpoint = mountpoint(Request, Settings, ClientInfo),
            {ConnInfo, with_identity(Request, ClientInfo#{mountpoint => Mountpoint})}
    end.

%% Client id and user name. With a pre-shared key they are what the key proves, unless EMQX
%% authenticates the device: what it says of itself is checked then, as with the built-in gateway.
names(#{identity := Identity, endpoint := Endpoint}, #{authenticates := false}) ->
    {Endpoint, Identity};
names(#{endpoint := Endpoint, query := Query}, _Settings) ->
    {query(<<"device_id">>, Query, Endpoint), query(<<"imei">>, Query, Endpoint)}.

%% The gateway fills in the identity of the key; EMQX what it authenticates.
mountpoint(#{identity := _} = Request, #{authenticates := true} = Settings, ClientInfo) ->
    #{mountpoint := Template} = Settings,
    case binary:match(Template, [<<"${clientid}">>, <<"${username}">>]) of
        nomatch -> maps:get(mountpoint, Request);
        _ -> render(Template, ClientInfo)
    end;
mountpoint(#{mountpoint := Mountpoint}, _Settings, _ClientInfo) ->
    Mountpoint.

%% Each placeholder once: what a device calls itself is no placeholder.
render(Template, ClientInfo) ->
    Names = "\\$\\{(endpoint_name|clientid|username|peerhost|zone)\\}",
    iolist_to_binary(filled(re:split(Template, Names), ClientInfo)).

filled([Literal, Name | Rest], ClientInfo) ->
    [Literal, value(Name, ClientInfo) | filled(Rest, ClientInfo)];
filled([Literal], _ClientInfo) ->
    [Literal].

value(<<"endpoint_name">>, #{endpoint_name := Endpoint}) -> Endpoint;
value(<<"clientid">>, #{clientid := ClientId}) -> ClientId;
value(<<"username">>, #{username := Username}) -> Username;
value(<<"peerhost">>, #{peerhost := Host}) -> inet:ntoa(Host);
value(<<"zone">>, #{zone := Zone}) -> atom_to_binary(Zone).

%% Where EMQX has the names of a certificate, the identity of the pre-shared key stands for them.
with_identity(#{identity := Identity}, ClientInfo) ->
    ClientInfo#{cn => Identity, dn => Identity};
with_identity(_Request, ClientInfo) ->
    ClientInfo.

allowed(Host, Rules) ->
    esockd_access:match(Host, Rules) =/= {matched, deny}.

socktype(#{type := dtls}) -> ssl;
socktype(_) -> udp.

%% @doc Whether topics may begin so. What an authenticator says of a client may be what the client
%% says of itself, and a wildcard would give it the commands of others.
-spec is_mountpoint(binary()) -> boolean().
is_mountpoint(Mountpoint) ->
    byte_size(Mountpoint) =< ?MAX_MOUNTPOINT andalso
        binary:match(Mountpoint, [<<"+">>, <<"#">>, <<0>>]) =:= nomatch.

%% @doc As the device has it, like the built-in gateway; the granted one where it says nothing.
-spec lifetime([{binary(), binary()}], non_neg_integer()) -> non_neg_integer().
lifetime(Query, Granted) ->
    try binary_to_integer(query(<<"lt">>, Query, <<>>)) of
        Lifetime when Lifetime >= 0 -> Lifetime;
        _ -> Granted
    catch
        error:badarg -> Granted
    end.

query(Key, Query, Default) ->
    case lists:keyfind(Key, 1, Query) of
        {_, <<>>} -> Default;
        {_, Value} -> Value;
        false -> Default
    end.

%% @doc Headers that all messages of the device share.
%% @doc Headers of a message with the properties that the gateway gives it.
-spec headers(map(), map()) -> map().
headers(#{correlation_data := Data}, Headers) ->
    Headers#{properties => #{'Correlation-Data' => Data}};
headers(#{}, Headers) ->
    Headers.

-spec headers(map()) -> map().
headers(#{username := Username, peerhost := Host, peername := Peer}) ->
    #{
        username => Username,
        peerhost => Host,
        peername => Peer,
        protocol => lwm2m,
        properties => #{
            'Content-Type' => <<"application/json">>, 'Payload-Format-Indicator' => 1
        }
    }.

%% @doc What EMQX takes for the session.
-spec session(integer(), map()) -> map().
session(CreatedAt, Subscriptions) ->
    #{
        id => undefined,
        is_persistent => false,
        subscriptions => Subscriptions,
        upgrade_qos => false,
        retry_interval => 0,
        await_rel_timeout => infinity,
        created_at => CreatedAt
    }.

%% @doc Statistics of the calling process's client. Packets and bytes are those on the side of
%% MQTT; of CoAP there are the metrics of the whole gateway only.
-spec stats(traffic(), traffic(), map()) -> [{atom(), term()}].
stats({Received, ReceivedBytes}, {Sent, SentBytes}, Subscriptions) ->
    {message_queue_len, Mailbox} = process_info(self(), message_queue_len),
    {heap_size, Heap} = process_info(self(), heap_size),
    {reductions, Reductions} = process_info(self(), reductions),
    [
        {recv_oct, ReceivedBytes},
        {recv_cnt, Received},
        {recv_pkt, Received},
        {recv_msg, Received},
        {send_oct, SentBytes},
        {send_cnt, Sent},
        {send_pkt, Sent},
        {send_msg, Sent},
        {subscriptions_cnt, map_size(Subscriptions)},
        {subscriptions_max, infinity},
        {inflight_cnt, 0},
        {inflight_max, infinity},
        {mqueue_len, 0},
        {mqueue_max, infinity},
        {mqueue_dropped, 0},
        {next_pkt_id, 0},
        {awaiting_rel_cnt, 0},
        {awaiting_rel_max, infinity},
        {mailbox_len, Mailbox},
        {heap_size, Heap},
        {reductions, Reductions}
    ].
