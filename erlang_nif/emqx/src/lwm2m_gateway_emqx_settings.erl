%% @private What every process of the plugin may ask without asking the owner: the settings in force, and
%% where listeners are bound.
-module(lwm2m_gateway_emqx_settings).

-export([current/0, put/1, address/1, put_addresses/1, forget/0]).

-define(SETTINGS, lwm2m_gateway_emqx_settings).
%% Addresses of the listeners that run, by their names: the same at each registration.
-define(ADDRESSES, lwm2m_gateway_emqx_addresses).

-spec current() -> lwm2m_gateway_emqx_config:settings().
current() ->
    persistent_term:get(?SETTINGS).

-spec put(lwm2m_gateway_emqx_config:settings()) -> ok.
put(Settings) ->
    persistent_term:put(?SETTINGS, Settings).

%% @doc Where a listener is bound.
-spec address(Listener :: binary()) -> lwm2m_gateway:address().
address(Listener) ->
    maps:get(Listener, persistent_term:get(?ADDRESSES, #{}), {{0, 0, 0, 0}, 0}).

%% @doc Nothing is done where they are the same.
-spec put_addresses([{Listener :: binary(), lwm2m_gateway:address()}]) -> ok.
put_addresses(Addresses) ->
    persistent_term:put(?ADDRESSES, maps:from_list(Addresses)).

%% @doc The gateway has stopped.
-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?SETTINGS),
    _ = persistent_term:erase(?ADDRESSES),
    ok.
