%% @doc The gateway type `lwm2m' as EMQX sees it (behaviour `emqx_gateway_impl').
-module(lwm2m_gateway_emqx).

-export([on_gateway_load/2, on_gateway_update/3, on_gateway_unload/2]).

-type gateway() :: #{name := atom(), config := map(), _ => _}.
-type state() :: #{supervisor := pid()}.

-export_type([gateway/0, state/0]).

%% @doc Opens the listeners. `{badconf, _}' is what EMQX tells its user as a mistake in the
%% configuration.
-spec on_gateway_load(gateway(), emqx_gateway_ctx:context()) ->
    {ok, [pid()], state()} | no_return().
on_gateway_load(#{config := Config}, Ctx) ->
    case lwm2m_gateway_emqx_sup:start_link(Config, Ctx) of
        {ok, Supervisor} ->
            {ok, [Supervisor], #{supervisor => Supervisor}};
        {error, Reason} ->
            throw(bad_config(Reason))
    end.

%% @doc Takes a changed configuration while devices stay registered. After an error the old one
%% stays in force.
-spec on_gateway_update(map(), gateway(), state()) -> {ok, [pid()], state()} | {error, term()}.
on_gateway_update(Config, _Gateway, #{supervisor := Supervisor} = State) ->
    case lwm2m_gateway_emqx_keeper:gateway_config(Config) of
        ok -> {ok, [Supervisor], State};
        {error, Reason} -> {error, bad_config(Reason)}
    end.

-spec on_gateway_unload(gateway(), state()) -> ok.
on_gateway_unload(_Gateway, #{supervisor := Supervisor}) ->
    lwm2m_gateway_emqx_sup:stop(Supervisor).

bad_config({invalid_config, [{Key, Message} | _]}) ->
    {badconf, #{key => Key, value => <<>>, reason => Message}};
bad_config({What, Message}) when is_atom(What), is_binary(Message) ->
    Key = maps:get(What, #{bind => listeners, models => xml_dir, topic => mountpoint}, lwm2m),
    {badconf, #{key => Key, value => <<>>, reason => Message}};
bad_config(Other) ->
    {badconf, #{key => lwm2m, value => <<>>, reason => Other}}.
