%% @doc What an operator has to know of, as alarms of EMQX. Each shows its newest reason.
-module(lwm2m_gateway_emqx_alarm).

-export([raise/3, clear/1, text/1]).

-export_type([name/0]).

%% `config': a configuration is refused, or the plugin did not start. `down': the gateway is down.
%% `missing': there is neither ours nor the built-in one. `store': nothing that is new outlives the node.
%% `http': there is no HTTP API.
-type name() :: config | down | missing | store | http.

%% @doc `Message' is for people, as is what is made of `Reason'.
-spec raise(name(), Reason :: term(), Message :: binary()) -> ok.
raise(Name, Reason, Message) ->
    Text = text(Reason),
    logger:error(#{msg => name(Name), reason => Text, means => Message}),
    %% An active alarm keeps the reason it was raised with.
    _ = clear(Name),
    _ = (catch emqx_alarm:activate(name(Name), #{reason => Text}, Message)),
    ok.

-spec clear(name()) -> ok.
clear(Name) ->
    _ = (catch emqx_alarm:ensure_deactivated(name(Name))),
    ok.

name(config) -> <<"lwm2m_gateway_config">>;
name(down) -> <<"lwm2m_gateway_down">>;
name(missing) -> <<"lwm2m_gateway_missing">>;
name(store) -> <<"lwm2m_gateway_store">>;
name(http) -> <<"lwm2m_gateway_http">>.

%% @doc A reason as text, with the keys of the configuration it is about.
-spec text(term()) -> binary().
text({invalid_config, [_ | _] = Errors}) ->
    join([
        [lwm2m_gateway_emqx_config:plugin_key(Key), ": ", Message]
     || {Key, Message} <- Errors
    ]);
text({badconf, #{key := Key, reason := Reason}}) ->
    join([[text(Key), ": ", text(Reason)]]);
text({What, Message}) when is_atom(What), is_binary(Message) ->
    join([[atom_to_binary(What), ": ", Message]]);
text(Text) when is_binary(Text) ->
    Text;
text(Atom) when is_atom(Atom) ->
    atom_to_binary(Atom);
text(Term) ->
    join([io_lib:format("~0tp", [Term])]).

join(Texts) ->
    unicode:characters_to_binary(lists:join("; ", Texts)).
