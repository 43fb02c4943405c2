%% @doc Devices that the store brings back: what is noted about a client of EMQX, and the client that is
%% made of it again. It is not authenticated anew, so what authentication said is noted too. No processes.
-module(lwm2m_gateway_emqx_restored).

-export([note/2, client/2, elsewhere/3]).

%% What is made anew of the registration and of the configuration as it is then.
-define(DERIVED, [
    zone,
    listener,
    protocol,
    peerhost,
    peername,
    sockport,
    endpoint_name,
    lifetime,
    is_bridge,
    enable_authn,
    mountpoint
]).

-type note() :: #{
    client := map(),
    %% Whether EMQX has authenticated it.
    authenticated := boolean(),
    %% Those that were added through EMQX's API.
    subscriptions := #{binary() => map()}
}.

-export_type([note/0]).

%% @doc What the store is to keep with the registration.
-spec note(ClientInfo :: map(), Subscriptions :: #{binary() => map()}) -> note().
note(#{listener := Listener} = ClientInfo, Subscriptions) ->
    #{
        client => maps:without([password | ?DERIVED], ClientInfo),
        authenticated => authenticates(fun(#{id := Id}) -> Id =:= Listener end),
        subscriptions => Subscriptions
    }.

%% @doc The client as it was. One that EMQX has to authenticate and has not, is none.
-spec client(lwm2m_gateway:device_info(), module()) ->
    {ok, ConnInfo :: map(), ClientInfo :: map(), Subscriptions :: #{binary() => map()}}
    | {deny, binary()}.
client(#{listener := Listener, mountpoint := Mountpoint, registered_at := At} = Info, Module) ->
    #{client := Noted, authenticated := Authenticated, subscriptions := Subscriptions} = read(Info),
    #{listeners := Listeners} = lwm2m_gateway_emqx_settings:current(),
    Wanted = maps:get(authenticates, maps:get(Listener, Listeners, #{}), false),
    case lwm2m_gateway_emqx_client:connection(Info, Module) of
        {deny, _} = Denied ->
            Denied;
        _ when Wanted, not Authenticated ->
            {deny, <<"not authenticated">>};
        {ConnInfo, Derived} ->
            ClientInfo = maps:merge(maps:remove(password, Derived), Noted),
            #{clientid := ClientId, username := Username} = ClientInfo,
            {ok,
                ConnInfo#{clientid => ClientId, username => Username, connected_at => At},
                ClientInfo#{mountpoint => Mountpoint}, Subscriptions}
    end.

read(Info) ->
    None = #{client => #{}, authenticated => false, subscriptions => #{}},
    try binary_to_term(maps:get(note, Info)) of
        #{client := Client, authenticated := _, subscriptions := _} = Note when is_map(Client) ->
            Note#{client := maps:without(?DERIVED, Client)};
        _ ->
            None
    catch
        %% None was written in time, or it is of a version that knows other terms.
        error:_ -> None
    end.

authenticates(Is) ->
    #{listeners := Listeners} = lwm2m_gateway_emqx_settings:current(),
    case [Listener || Listener <- maps:values(Listeners), Is(Listener)] of
        [#{authenticates := Authenticates} | _] -> Authenticates;
        [] -> false
    end.

%% @doc Whether the client has connected to another node since, and with which process. A node that does
%% not answer has none.
-spec elsewhere(GwName :: atom(), ClientId :: binary(), Since :: non_neg_integer()) ->
    {there, pid()} | here.
elsewhere(GwName, ClientId, Since) ->
    Pids = [
        Pid
     || Pid <- emqx_gateway_cm:lookup_channels(GwName, ClientId),
        Pid =/= self(),
        connected_at(GwName, ClientId, Pid) > Since
    ],
    case Pids of
        [Pid | _] -> {there, Pid};
        [] -> here
    end.

connected_at(GwName, ClientId, Pid) ->
    try emqx_gateway_cm:get_chan_info(GwName, ClientId, Pid) of
        #{conninfo := #{connected_at := At}} -> At;
        _ -> 0
    catch
        _:_ -> 0
    end.
