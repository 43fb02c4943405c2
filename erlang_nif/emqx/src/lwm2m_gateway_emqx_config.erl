%% @doc From the configuration of EMQX's gateway and that of the plugin to that of the gateway
%% (docs/configuration.md). No processes.
-module(lwm2m_gateway_emqx_config).

-export([to_gateway/3, to_check/2, readable/1, plugin_key/1]).
-export([settings/2, listeners/1, bind/1]).

-export_type([settings/0, console/0, listener/0]).

%% @doc What the Erlang side needs to know.
-type settings() :: #{
    commands := [{Topic :: binary(), QoS :: 0..2}],
    %% Where notifications go.
    notify := {Topic :: binary(), QoS :: 0..2},
    %% Where answers and notifications go of what is asked by the older topics, if there are these.
    older := undefined | {Topic :: binary(), QoS :: 0..2},
    %% There is a store.
    stores := boolean(),
    enable_stats := boolean(),
    %% Where the HTTP API is, as far as it can be told.
    console := undefined | console(),
    listeners := #{Name :: binary() => listener()}
}.

-type console() :: #{
    scheme := binary(),
    host := any | {loopback, binary()} | binary(),
    port := inet:port_number(),
    %% Origins of the pages that may show it in a frame.
    ancestors := [binary()]
}.

-type listener() :: #{
    id := atom(),
    type := udp | dtls,
    bind := term(),
    max_connections := pos_integer() | infinity,
    enable_authn := boolean(),
    %% EMQX authenticates the devices of this listener.
    authenticates := boolean(),
    mountpoint := binary(),
    access_rules := [term()]
}.

%% Switches whose default in the plugin differs from the gateway's: what applications of the
%% built-in gateway rely on.
-define(COMPAT, #{<<"firmware_topic">> => true}).

%% The suites that LwM2M makes mandatory; EMQX's schema refuses their names.
-define(MANDATORY_CIPHERS, [<<"PSK-AES128-CCM8">>, <<"PSK-AES128-CCM">>]).

-define(PSK_CIPHERS, [
    <<"PSK-AES128-GCM-SHA256">>,
    <<"PSK-AES128-CBC-SHA256">>,
    <<"ECDHE-PSK-CHACHA20-POLY1305">>,
    <<"ECDHE-PSK-AES128-CBC-SHA256">>
]).

%% Those with certificates that both know, and the one that LwM2M makes mandatory.
-define(CERTIFICATE_CIPHERS, [
    <<"ECDHE-ECDSA-AES128-GCM-SHA256">>,
    <<"ECDHE-RSA-AES128-GCM-SHA256">>
]).
-define(MANDATORY_CERTIFICATE_CIPHER, <<"ECDHE-ECDSA-AES128-CCM8">>).

%% Keys of the plugin's configuration that are the gateway's as they are.
-define(SAME_KEYS, [
    <<"lifetime_policy">>,
    <<"hostile_endpoint">>,
    <<"address_change">>,
    <<"publish_deregister">>,
    <<"format">>,
    <<"shards">>
]).

%% Folder of the store in that of the node.
-define(STORE, "lwm2m_gateway").

%% Name of a DTLS listener that is there for the check only.
-define(IMAGINED, <<"imagined">>).

%% Keys of a DTLS listener that come from the plugin's configuration.
-define(DTLS_KEYS, [
    {<<"psk">>, <<"psk_credentials">>},
    {<<"psk_file">>, <<"psk_file">>},
    {<<"psk_file_keys">>, <<"psk_file_keys">>},
    {<<"identity_separator">>, <<"psk_identity_separator">>},
    {<<"endpoint_rule">>, <<"psk_endpoint_rule">>},
    {<<"takeover">>, <<"psk_takeover">>},
    {<<"dtls_options.ciphers">>, <<"psk_ciphers">>}
]).

%% Those that are sections of the gateway's, with the name of the section in front.
-define(SAME_SECTIONS, [<<"queue">>]).

%% @doc `Emqx' is the checked configuration `gateway.lwm2m', `Plugin' that of the plugin, of which
%% every part may be missing. `Version' is EMQX's.
-spec to_gateway(Emqx :: map(), Plugin :: map(), Version :: string()) ->
    {ok, map()} | {error, {invalid_config, [{binary(), binary()}]}}.
to_gateway(Emqx, Plugin, Version) ->
    case further(Plugin) of
        {ok, Further} ->
            Base = maps:merge(
                #{
                    <<"listeners">> => gateway_listeners(Emqx, Plugin),
                    <<"translators">> => translators(Emqx, Plugin),
                    <<"update_msg_publish_condition">> => condition(Emqx, Plugin, Version),
                    <<"compat">> => maps:merge(?COMPAT, section(<<"compat">>, Plugin))
                },
                common(Emqx, Plugin)
            ),
            {ok, merge(Base, Further)};
        {error, Message} ->
            {error, {invalid_config, [{<<"further">>, Message}]}}
    end.

%% @doc A configuration of the gateway for the check: pre-shared keys are looked at though there is
%% no DTLS listener yet. With the beginning of the keys of what was added.
-spec to_check(map(), Plugin :: map()) -> {map(), Imagined :: binary()}.
to_check(#{<<"listeners">> := Listeners} = Config, Plugin) ->
    Imagined = <<"listeners.dtls.", ?IMAGINED/binary>>,
    case maps:get(<<"dtls">>, Listeners, #{}) of
        None when map_size(None) =:= 0 ->
            Listener = (dtls(#{}, Plugin))#{<<"bind">> => <<"127.0.0.1:0">>},
            Added = Listeners#{<<"dtls">> => #{?IMAGINED => Listener}},
            {Config#{<<"listeners">> := Added}, Imagined};
        _ ->
            {Config, Imagined}
    end.

%% @doc Whether files are there that a listener would read.
-spec readable(Plugin :: map()) -> ok | {error, {invalid_config, [{binary(), binary()}]}}.
readable(#{<<"psk_file">> := <<_, _/binary>> = File}) ->
    case file:open(File, [read, raw]) of
        {ok, Device} ->
            file:close(Device);
        {error, Reason} ->
            Message = iolist_to_binary([File, ": ", file:format_error(Reason)]),
            {error, {invalid_config, [{<<"psk_file">>, Message}]}}
    end;
readable(_Plugin) ->
    ok.

%% @doc A key of the gateway as the plugin's configuration calls it; those that come from
%% elsewhere as they are.
-spec plugin_key(binary()) -> binary().
plugin_key(<<"listeners.dtls.", Key/binary>> = Whole) ->
    [_Name | Rest] = binary:split(Key, <<".">>),
    case [To || {From, To} <- ?DTLS_KEYS, [Left] <- [Rest], is_below(Left, From)] of
        [Plugin | _] -> Plugin;
        [] -> Whole
    end;
plugin_key(<<"translators.legacy.", Key/binary>>) ->
    plugin_key(<<"legacy.", Key/binary>>);
plugin_key(<<"translators.series.", Key/binary>>) ->
    plugin_key(<<"series.", Key/binary>>);
plugin_key(<<"translators.send.", Key/binary>>) ->
    plugin_key(<<"send.", Key/binary>>);
plugin_key(Key) ->
    [Section | _] = binary:split(Key, <<".">>),
    Own = [<<"legacy">>, <<"series">>, <<"send">>, <<"compat">>, <<"store">>, <<"http">>],
    Sections = Own ++ ?SAME_SECTIONS,
    case lists:member(Section, Sections) of
        true -> binary:replace(Key, <<".">>, <<"_">>, [global]);
        false -> Key
    end.

%% `psk[0].key' is below `psk', `psk_file' is not.
is_below(Key, Of) ->
    case string:prefix(Key, Of) of
        nomatch -> false;
        <<>> -> true;
        <<C, _/binary>> -> C =:= $. orelse C =:= $[
    end.

common(Emqx, Plugin) ->
    FromEmqx = maps:from_list(
        [
            {atom_to_binary(Key), Value}
         || Key <- [mountpoint, xml_dir, auto_observe], {ok, Value} <- [maps:find(Key, Emqx)]
        ] ++
            [
                {atom_to_binary(Key), milliseconds(Value)}
             || Key <- [lifetime_min, lifetime_max], {ok, Value} <- [maps:find(Key, Emqx)]
            ] ++
            [
                {<<"qmode_time_window">>, Value}
             || {ok, Value} <- [maps:find(qmode_time_window, Emqx)]
            ] ++
            [{<<"blockwise">>, blockwise(Value)} || {ok, Value} <- [maps:find(blockwise, Emqx)]] ++
            %% EMQX has bounds, but grants what a device asks for.
            [{<<"lifetime_policy">>, <<"ignore">>}]
    ),
    Series = maps:with(
        [<<"boolean">>, <<"paths">>, <<"mapping">>], section(<<"series">>, Plugin)
    ),
    Sections = maps:from_list([{Name, section(Name, Plugin)} || Name <- ?SAME_SECTIONS]),
    maps:merge(
        maps:merge(FromEmqx, Sections#{
            <<"series">> => Series, <<"store">> => store(Plugin), <<"http">> => http(Plugin)
        }),
        maps:with(?SAME_KEYS, Plugin)
    ).

%% What is empty on the page is not there.
http(Plugin) ->
    maps:filter(
        fun(_, Value) -> Value =/= <<>> andalso Value =/= [] end, section(<<"http">>, Plugin)
    ).

%% In the data folder of the node, unless it is not wanted.
store(Plugin) ->
    {Enabled, Store} =
        case maps:take(<<"enable">>, section(<<"store">>, Plugin)) of
            error -> {true, section(<<"store">>, Plugin)};
            Taken -> Taken
        end,
    case Enabled of
        true -> Store#{<<"path">> => iolist_to_binary(filename:join(emqx:data_dir(), ?STORE))};
        false -> Store
    end.

%% EMQX 6.
blockwise(Blockwise) ->
    maps:fold(
        fun
            (enable, Value, To) -> To#{<<"enable">> => Value};
            (max_block_size, Value, To) -> To#{<<"max_block_size">> => Value};
            (max_body_size, Value, To) -> To#{<<"max_body_size">> => Value};
            (exchange_lifetime, Value, To) -> To#{<<"exchange_lifetime">> => milliseconds(Value)};
            (_, _, To) -> To
        end,
        #{},
        Blockwise
    ).

%% As EMQX is configured. Its own gateway publishes every Update before 6.1.1, whatever it is
%% configured to do; applications that take them for signs of life want `emqx' or `always'.
condition(Emqx, Plugin, Version) ->
    Configured = maps:get(update_msg_publish_condition, Emqx, always),
    case maps:get(<<"update_msg_publish_condition">>, Plugin, <<"gateway">>) of
        <<"gateway">> ->
            Configured;
        <<"emqx">> ->
            case has_condition(Version) of
                true -> Configured;
                false -> <<"always">>
            end;
        Condition ->
            Condition
    end.

has_condition("5." ++ _) -> false;
has_condition("6.0" ++ _) -> false;
has_condition("6.1.0" ++ _) -> false;
has_condition(_) -> true.

translators(Emqx, Plugin) ->
    FromEmqx = maps:fold(
        fun(Name, Translator, To) -> To#{atom_to_binary(Name) => translator(Translator)} end,
        #{},
        maps:get(translators, Emqx, #{})
    ),
    maps:merge(
        FromEmqx,
        maps:from_list([
            {<<"send">>, section(<<"send">>, Plugin)},
            {<<"series">>,
                maps:with([<<"enable">>, <<"topic">>, <<"qos">>], section(<<"series">>, Plugin))},
            {<<"legacy">>, legacy(Plugin)}
        ])
    ).

translator(Translator) ->
    maps:fold(fun(Key, Value, To) -> To#{atom_to_binary(Key) => Value} end, #{}, Translator).

legacy(Plugin) ->
    Topics = [
        {Kind, Translator}
     || Kind <- [<<"command">>, <<"response">>],
        Translator <- [section(<<"legacy_", Kind/binary>>, Plugin)],
        map_size(Translator) > 0
    ],
    maps:merge(
        maps:with([<<"enable">>], section(<<"legacy">>, Plugin)), maps:from_list(Topics)
    ).

gateway_listeners(Emqx, Plugin) ->
    maps:fold(
        fun
            (Type, Named, To) when Type =:= udp; Type =:= dtls ->
                To#{
                    atom_to_binary(Type) => maps:from_list([
                        {name(Name), gateway_listener(Type, Listener, Emqx, Plugin)}
                     || {Name, Listener} <- maps:to_list(Named)
                    ])
                };
            (_, _, To) ->
                To
        end,
        #{},
        maps:get(listeners, Emqx, #{})
    ).

gateway_listener(Type, Listener, Emqx, Plugin) ->
    Common = maps:from_list(
        [{<<"bind">>, bind(maps:get(bind, Listener))}] ++
            [
                {atom_to_binary(Key), Value}
             || Key <- [enable, max_connections, mountpoint],
                {ok, Value} <- [maps:find(Key, Listener)],
                Value =/= undefined
            ] ++
            [{<<"max_conn_rate">>, rate(Rate)} || {ok, Rate} <- [maps:find(max_conn_rate, Listener)]] ++
            [
                {<<"access_rules">>, Rules}
             || Rules <- [numeric_rules(maps:get(access_rules, Listener, []))], Rules =/= []
            ] ++
            [{<<"shared_mountpoint">>, true} || not is_of_a_device(mountpoint(Listener, Emqx))] ++
            [{<<"udp_options">>, buffers(maps:get(udp_options, Listener, #{}))}]
    ),
    case Type of
        udp -> Common#{<<"plain_registers">> => plain_registers(Listener, Emqx, Plugin)};
        dtls -> maps:merge(Common, dtls(maps:get(dtls_options, Listener, #{}), Plugin))
    end.

rate(Rate) when is_integer(Rate) -> Rate;
rate(Rate) -> text(Rate).

%% Rules that the gateway applies to every datagram: all, if none names a host, which the gateway
%% would have to look up. EMQX's own code applies them once more when a device registers.
numeric_rules(Rules) ->
    Texts = [text(Rule) || Rule <- Rules],
    case lists:all(fun is_numeric_rule/1, Texts) of
        true -> Texts;
        false -> []
    end.

is_numeric_rule(Rule) ->
    case string:lexemes(Rule, " ") of
        [_Action, <<"all">>] ->
            true;
        [_Action, Network] ->
            [Address | _Length] = binary:split(Network, <<"/">>),
            inet:parse_strict_address(binary_to_list(Address)) =/= {error, einval};
        _ ->
            false
    end.

%% Where EMQX authenticates, it decides who may register what.
plain_registers(Listener, Emqx, Plugin) ->
    case maps:get(<<"plain_registers">>, Plugin, <<"auto">>) of
        <<"auto">> ->
            case authenticates(Listener, Emqx) of
                true -> <<"any">>;
                false -> <<"uncovered">>
            end;
        Registers ->
            Registers
    end.

authenticates(Listener, Emqx) ->
    maps:get(enable_authn, Listener, true) andalso
        (is_enabled(maps:get(authentication, Listener, undefined)) orelse
            is_enabled(maps:get(authentication, Emqx, undefined))).

is_enabled(Authenticators) when is_list(Authenticators) ->
    lists:any(fun is_enabled/1, Authenticators);
is_enabled(#{enable := Enabled}) -> Enabled;
is_enabled(Authenticator) -> is_map(Authenticator) andalso map_size(Authenticator) > 0.

mountpoint(Listener, Emqx) ->
    case maps:get(mountpoint, Listener, undefined) of
        undefined -> text(maps:get(mountpoint, Emqx, <<>>));
        Mountpoint -> text(Mountpoint)
    end.

%% A mountpoint without a name of the device is the same for many of them by intention.
is_of_a_device(Mountpoint) ->
    Names = [<<"${endpoint_name}">>, <<"${clientid}">>, <<"${username}">>],
    binary:match(Mountpoint, Names) =/= nomatch.

%% Too small a value is refused by the gateway; EMQX takes it.
buffers(Options) ->
    maps:from_list([
        {atom_to_binary(Key), max(Value, 4096)}
     || Key <- [recbuf, sndbuf], {ok, Value} <- [maps:find(Key, Options)], is_integer(Value)
    ]).

dtls(Options, Plugin) ->
    Psk = section(<<"psk">>, Plugin),
    Keys = maps:from_list([
        {To, psk(From, Value)}
     || {From, To} <- [
            {<<"file">>, <<"psk_file">>},
            {<<"file_keys">>, <<"psk_file_keys">>},
            {<<"credentials">>, <<"psk">>},
            {<<"identity_separator">>, <<"identity_separator">>},
            {<<"endpoint_rule">>, <<"endpoint_rule">>},
            {<<"takeover">>, <<"takeover">>}
        ],
        {ok, Value} <- [maps:find(From, Psk)],
        Value =/= <<>>,
        Value =/= []
    ]),
    Known = [{handshake_timeout, time}, {reuse_sessions, same}],
    Further = maps:from_list([
        {atom_to_binary(Key), dtls_option(Kind, Value)}
     || {Key, Kind} <- Known,
        {ok, Value} <- [maps:find(Key, Options)],
        is_integer(Value) orelse is_boolean(Value)
    ]),
    Certificates = certificates(Options),
    Own = maps:get(<<"ciphers">>, Psk, []),
    Ciphers = ciphers(maps:get(ciphers, Options, []), Own, map_size(Certificates) > 0),
    Keys#{
        <<"dtls_options">> => maps:merge(
            maps:merge(Further, Certificates),
            maps:from_list([{<<"ciphers">>, Ciphers} || Ciphers =/= []])
        )
    }.

%% What EMQX's gateway would do with certificates. Without `verify_peer' it does not look at those of
%% devices, which nobody could tell apart then: devices come in by keys only.
certificates(#{verify := verify_peer} = Options) ->
    maps:from_list(
        [
            {atom_to_binary(Key), file(File)}
         || Key <- [certfile, keyfile, cacertfile],
            {ok, File} <- [maps:find(Key, Options)],
            File =/= undefined,
            text(File) =/= <<>>
        ] ++
            [
                {<<"password">>, Password}
             || Password <- [password(maps:get(password, Options, undefined))],
                Password =/= <<>>
            ] ++
            [{<<"depth">>, min(Depth, 20)} || #{depth := Depth} <- [Options], is_integer(Depth)] ++
            %% The gateway says that it does not look for lists by itself.
            [{<<"enable_crl_check">>, true} || #{enable_crl_check := true} <- [Options]] ++
            [{<<"verify">>, <<"verify_peer">>}]
    );
certificates(_Options) ->
    #{}.

%% As EMQX: the name may begin with a variable of the environment.
file(File) ->
    text(emqx_schema:naive_env_interpolation(File)).

%% EMQX wraps secrets.
password(Wrapped) when is_function(Wrapped, 0) -> password(Wrapped());
password(undefined) -> <<>>;
password(Password) -> text(Password).

psk(<<"credentials">>, Credentials) ->
    [
        maps:filter(fun(_, Value) -> Value =/= [] end, Credential)
     || Credential <- Credentials
    ];
psk(_, Value) ->
    Value.

dtls_option(time, Milliseconds) -> milliseconds(Milliseconds);
dtls_option(same, Value) -> Value.

%% EMQX's list cannot name the suites that devices need most. Without any that is known all are
%% offered.
ciphers(Emqx, Plugin, HasCertificates) ->
    Named = [text(Cipher) || Cipher <- Emqx],
    Keys =
        case {Plugin, [Name || Name <- Named, lists:member(Name, ?PSK_CIPHERS)]} of
            {[_ | _], _} -> Plugin;
            {[], []} -> [];
            {[], Known} -> ?MANDATORY_CIPHERS ++ Known
        end,
    Certificates =
        case [Name || Name <- Named, lists:member(Name, ?CERTIFICATE_CIPHERS)] of
            [] -> ?CERTIFICATE_CIPHERS;
            Chosen -> Chosen
        end,
    case HasCertificates andalso Keys =/= [] of
        true -> Keys ++ ([?MANDATORY_CERTIFICATE_CIPHER | Certificates] -- Keys);
        false -> Keys
    end.

%% @doc As EMQX has it: a port, an address with a port, or text.
-spec bind(inet:port_number() | {inet:ip_address(), inet:port_number()} | iodata()) ->
    inet:port_number() | binary().
bind(Port) when is_integer(Port) ->
    Port;
bind({Address, Port}) when tuple_size(Address) =:= 8 ->
    iolist_to_binary(["[", inet:ntoa(Address), "]:", integer_to_list(Port)]);
bind({Address, Port}) when is_tuple(Address) ->
    iolist_to_binary([inet:ntoa(Address), ":", integer_to_list(Port)]);
bind(Text) ->
    iolist_to_binary(Text).

%% @doc What is left of both configurations for this side. `Gateway' is the outcome of
%% {@link to_gateway/3}.
-spec settings(Emqx :: map(), Gateway :: map()) -> settings().
settings(Emqx, #{<<"translators">> := Translators, <<"store">> := Store} = Gateway) ->
    Current = maps:get(<<"command">>, Translators, #{}),
    Legacy = maps:get(<<"legacy">>, Translators, #{}),
    {Older, Answers} =
        case maps:get(<<"enable">>, Legacy, false) of
            true ->
                {
                    [command(maps:get(<<"command">>, Legacy, #{}), <<"command">>)],
                    command(maps:get(<<"response">>, Legacy, #{}), <<"response">>)
                };
            false ->
                {[], undefined}
        end,
    #{
        commands => [command(Current, <<"dn/#">>) | Older],
        older => Answers,
        notify => command(maps:get(<<"notify">>, Translators, #{}), <<"up/notify">>),
        stores => maps:is_key(<<"path">>, Store),
        enable_stats => maps:get(enable_stats, Emqx, true),
        console => console(maps:get(<<"http">>, Gateway, #{})),
        listeners => listeners(Emqx)
    }.

%% Where the HTTP API is, as far as it can be told; a port that the system chooses cannot.
console(#{<<"bind">> := Bind} = Http) ->
    {Host, Port} =
        case string:split(bind_text(Bind), ":", trailing) of
            [Only] -> {<<"127.0.0.1">>, Only};
            [Before, After] -> {Before, After}
        end,
    case string:to_integer(Port) of
        {Number, <<>>} when Number > 0 ->
            #{
                scheme => scheme(Http),
                host => bound(Host),
                port => Number,
                ancestors => maps:get(<<"frame_ancestors">>, Http, [])
            };
        _ ->
            undefined
    end;
console(_Off) ->
    undefined.

bind_text(Port) when is_integer(Port) -> integer_to_binary(Port);
bind_text(Text) -> bind(Text).

scheme(#{<<"certfile">> := _}) -> <<"https">>;
scheme(_Http) -> <<"http">>.

bound(<<"0.0.0.0">>) -> any;
bound(<<"[::]">>) -> any;
bound(<<"127.", _/binary>> = Address) -> {loopback, Address};
bound(<<"[::1]">> = Address) -> {loopback, Address};
bound(Address) -> Address.

command(Translator, Default) ->
    {maps:get(<<"topic">>, Translator, Default), maps:get(<<"qos">>, Translator, 0)}.

%% @doc The listeners that are to run, by the name that the gateway gives them.
-spec listeners(Emqx :: map()) -> #{binary() => listener()}.
listeners(Emqx) ->
    maps:from_list([
        {<<(atom_to_binary(Type))/binary, ":", (name(Name))/binary>>, #{
            id => binary_to_atom(
                <<"lwm2m:", (atom_to_binary(Type))/binary, ":", (name(Name))/binary>>
            ),
            type => Type,
            bind => maps:get(bind, Listener),
            max_connections => maps:get(max_connections, Listener, infinity),
            enable_authn => maps:get(enable_authn, Listener, true),
            authenticates => authenticates(Listener, Emqx),
            mountpoint => mountpoint(Listener, Emqx),
            access_rules => access_rules(maps:get(access_rules, Listener, []))
        }}
     || {Type, Named} <- maps:to_list(maps:get(listeners, Emqx, #{})),
        Type =:= udp orelse Type =:= dtls,
        {Name, Listener} <- maps:to_list(Named),
        maps:get(enable, Listener, true)
    ]).

access_rules(Rules) ->
    [esockd_access:compile(Rule) || Rule <- emqx_listeners:esockd_access_rules(Rules)].

%% The plugin's `further': JSON text with any other key.
further(Plugin) ->
    case maps:get(<<"further">>, Plugin, <<>>) of
        <<>> ->
            {ok, #{}};
        Text ->
            case emqx_utils_json:safe_decode(Text, [return_maps]) of
                {ok, Further} when is_map(Further) -> {ok, Further};
                _ -> {error, <<"must be a JSON object">>}
            end
    end.

merge(Base, Over) when is_map(Base), is_map(Over) ->
    maps:fold(
        fun(Key, Value, To) ->
            case To of
                #{Key := Below} -> To#{Key := merge(Below, Value)};
                #{} -> To#{Key => Value}
            end
        end,
        Base,
        Over
    );
merge(_Base, Over) ->
    Over.

%% Keys with the name of a section in front, without it.
section(Name, Plugin) ->
    Prefix = <<Name/binary, "_">>,
    Length = byte_size(Prefix),
    maps:from_list([
        {Key, Value}
     || {<<Front:Length/binary, Key/binary>>, Value} <- maps:to_list(Plugin), Front =:= Prefix
    ]).

milliseconds(infinity) -> <<"87600h">>;
milliseconds(Milliseconds) -> <<(integer_to_binary(Milliseconds))/binary, "ms">>.

name(Name) when is_atom(Name) -> atom_to_binary(Name);
name(Name) -> text(Name).

text(Text) when is_atom(Text) -> atom_to_binary(Text);
text(Text) -> iolist_to_binary(Text).
