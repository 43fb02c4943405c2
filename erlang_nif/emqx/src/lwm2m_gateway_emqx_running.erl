%% @private The gateway runs with the configurations of EMQX and of the plugin: started with some that work, and
%% changed while it runs.
-module(lwm2m_gateway_emqx_running).

-export([start/2, reload/3, refused/1]).

-export_type([running/0]).

-define(NO_STORE, <<
    "The LwM2M gateway runs without its store: registrations, observations and waiting commands are lost "
    "when the node stops"
>>).
-define(NO_HTTP, <<
    "The LwM2M gateway runs without its HTTP API, console and metrics. It tries again after each change of "
    "the configuration and at the next start"
>>).
-define(UNREADABLE, <<"config.hocon of the plugin cannot be read, or does not match the schema">>).

-type running() :: #{
    gateway := lwm2m_gateway:gateway(),
    emqx := map(),
    plugin := map(),
    %% `failing': it cannot be written. `refused': there is none although it is configured.
    store := durable | failing | refused,
    http := served | refused,
    %% About the configuration, as they were logged.
    warnings := [lwm2m_gateway:config_error()]
}.

%% @doc With what EMQX has of the plugin's configuration if that works, or with the last that did.
-spec start({ok, map()} | unknown, Emqx :: map()) -> {ok, running()} | {error, term()}.
start({ok, Stored}, Emqx) ->
    case revealed(Stored) of
        {ok, Plugin} -> start_with_stored(Plugin, Emqx);
        {error, Reason} -> start_with_another(Reason, accepted_other_than(Stored), Emqx)
    end;
start(unknown, Emqx) ->
    %% Without any the defaults will do; they are not what somebody wants, so they are not kept.
    start_with_another({config, ?UNREADABLE}, accepted_other_than(#{}) ++ [#{}], Emqx).

start_with_stored(Plugin, Emqx) ->
    case readable_and_started(Plugin, Emqx) of
        {ok, Running} ->
            ok = lwm2m_gateway_emqx_accepted:write(Plugin),
            ok = lwm2m_gateway_emqx_alarm:clear(config),
            {ok, Running};
        {error, {bind, _}} = Error ->
            %% Not the plugin's.
            Error;
        {error, Reason} ->
            start_with_another(Reason, accepted_other_than(Plugin), Emqx);
        {unreadable, Reason} ->
            %% Perhaps there is no listener that would read it.
            Others = accepted_other_than(Plugin) ++ [Plugin],
            start_with_another(Reason, Others, Emqx)
    end.

readable_and_started(Plugin, Emqx) ->
    case lwm2m_gateway_emqx_config:readable(Plugin) of
        ok -> start_gateway(Emqx, Plugin);
        {error, Reason} -> {unreadable, Reason}
    end.

%% EMQX has the stars that it is to show. At the start of a node it takes the configuration of
%% another that runs, and so do we with the keys.
revealed(Stored) ->
    case lwm2m_gateway_emqx_secrets:revealed(Stored, #{}) of
        {ok, Plugin} -> {ok, Plugin};
        {error, _} -> lwm2m_gateway_emqx_secrets:revealed(Stored, lwm2m_gateway_emqx_accepted:keys())
    end.

%% EMQX stores a configuration of the plugin whether it can be used or not.
accepted_other_than(Plugin) ->
    case lwm2m_gateway_emqx_accepted:read() of
        {ok, Accepted} when Accepted =/= Plugin -> [Accepted];
        _ -> []
    end.

start_with_another(Reason, [], _Emqx) ->
    {error, Reason};
start_with_another(Reason, [Plugin | Others], Emqx) ->
    case start_gateway(Emqx, Plugin) of
        {ok, Running} ->
            refused(Reason),
            {ok, Running};
        {error, _} ->
            start_with_another(Reason, Others, Emqx)
    end.

%% @doc Somebody has to know that what is configured is not in force.
-spec refused(Reason :: term()) -> ok.
refused(Reason) ->
    lwm2m_gateway_emqx_alarm:raise(
        config,
        Reason,
        <<"The plugin lwm2m_gateway cannot use its configuration; the last valid one stays in effect">>
    ).

%% @doc Another configuration; after an error the former is in force.
-spec reload(Emqx :: map(), Plugin :: map(), running()) -> {ok, running()} | {error, term()}.
reload(Emqx, Plugin, #{warnings := Known} = Running) ->
    case configure(Emqx, Plugin) of
        {ok, Config, Settings, Warnings} ->
            %% First, because devices are told at once.
            Former = lwm2m_gateway_emqx_settings:current(),
            ok = lwm2m_gateway_emqx_settings:put(Settings),
            case reload_library(Config, Running, Plugin) of
                {ok, Http} ->
                    warn(Warnings -- Known),
                    {ok, Running#{
                        emqx := Emqx, plugin := Plugin, warnings := Warnings, http := Http
                    }};
                {error, _} = Error ->
                    ok = lwm2m_gateway_emqx_settings:put(Former),
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

start_gateway(Emqx, Plugin) ->
    case configure(Emqx, Plugin) of
        {ok, Config, Settings, Warnings} ->
            Options = #{
                config => Config,
                subscriptions => per_device,
                authorize => true,
                psk => true,
                device_events => true,
                credit => 1
            },
            ok = lwm2m_gateway_emqx_settings:put(Settings),
            case start_library(Options) of
                {ok, Gateway, Store, Http} ->
                    warn(Warnings),
                    {ok, #{
                        gateway => Gateway,
                        emqx => Emqx,
                        plugin => Plugin,
                        store => Store,
                        http => Http,
                        warnings => Warnings
                    }};
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

%% Without the store or the HTTP API if it cannot be used: devices that have to register again are better
%% than none.
start_library(Options) ->
    start_library(Options, durable, served).

start_library(#{config := Config} = Options, Store, Http) ->
    case lwm2m_gateway:start(Options) of
        {ok, Gateway} ->
            Store =:= durable andalso lwm2m_gateway_emqx_alarm:clear(store),
            Http =:= served andalso lwm2m_gateway_emqx_alarm:clear(http),
            {ok, Gateway, Store, Http};
        {error, {store, _} = Reason} when is_map_key(<<"store">>, Config) ->
            ok = lwm2m_gateway_emqx_alarm:raise(store, Reason, ?NO_STORE),
            start_library(Options#{config := maps:remove(<<"store">>, Config)}, refused, Http);
        {error, {http, _} = Reason} when is_map_key(<<"http">>, Config) ->
            ok = lwm2m_gateway_emqx_alarm:raise(http, Reason, ?NO_HTTP),
            start_library(Options#{config := maps:remove(<<"http">>, Config)}, Store, refused);
        {error, _} = Error ->
            Error
    end.

%% What was wrong with the HTTP API at the start is no reason to refuse anything else.
reload_library(Config, #{gateway := Gateway, http := Http, plugin := Former}, Plugin) ->
    Same = [maps:get(K, Plugin, none) || K <- http_keys(Plugin, Former)] =:=
        [maps:get(K, Former, none) || K <- http_keys(Plugin, Former)],
    case lwm2m_gateway:reload(Gateway, Config) of
        ok ->
            ok = lwm2m_gateway_emqx_alarm:clear(http),
            {ok, served};
        {error, {http, _}} when Http =:= refused, Same ->
            case lwm2m_gateway:reload(Gateway, maps:remove(<<"http">>, Config)) of
                ok -> {ok, refused};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

http_keys(Plugin, Former) ->
    [
        Key
     || Key <- lists:usort(maps:keys(Plugin) ++ maps:keys(Former)),
        Key =:= <<"further">> orelse string:prefix(Key, <<"http_">>) =/= nomatch
    ].

configure(Emqx, Plugin) ->
    case lwm2m_gateway_emqx_config:to_gateway(Emqx, Plugin, emqx_release:version()) of
        {ok, Config} ->
            {Checked, Imagined} = lwm2m_gateway_emqx_config:to_check(Config, Plugin),
            case lwm2m_gateway:check_config(Checked) of
                {ok, Warnings} ->
                    Settings = lwm2m_gateway_emqx_config:settings(Emqx, Config),
                    {ok, Config, Settings, [W || W <- Warnings, is_of_use(W, Imagined)]};
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

is_of_use({Key, Message}, Imagined) ->
    %% What the gateway takes for no placeholder is rendered here, after authentication.
    binary:match(Message, <<"${client_attrs.">>) =:= nomatch andalso
        %% Not about a listener that there is not.
        string:prefix(Key, Imagined) =:= nomatch andalso
        %% The host knows keys.
        not (binary:match(Message, <<"only if the host knows">>) =/= nomatch andalso
            emqx_conf:get([psk_authentication, enable], false)).

warn(Warnings) ->
    lists:foreach(
        fun({Key, Message}) ->
            logger:warning(#{msg => "lwm2m_gateway_config", key => Key, warning => Message})
        end,
        Warnings
    ).
