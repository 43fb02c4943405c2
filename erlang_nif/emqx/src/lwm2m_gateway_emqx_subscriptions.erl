%% @private Subscriptions of a device: those that commands come by, and those made through EMQX's API.
-module(lwm2m_gateway_emqx_subscriptions).

-export([
    commands/1, remount/2, resubscribe/2, shown/2, subscribe/3, subscribe_commands/2, unsubscribe/2,
    unsubscribe_commands/2
]).

-include("lwm2m_gateway_emqx_device.hrl").

%% @doc Filters for commands below a mountpoint.
-spec commands(Mountpoint :: binary()) -> [{Filter :: binary(), QoS :: 0..2}].
commands(Mountpoint) ->
    #{commands := Commands} = lwm2m_gateway_emqx_settings:current(),
    [{emqx_mountpoint:mount(Mountpoint, Topic), QoS} || {Topic, QoS} <- Commands].

%% @doc Where commands come.
-spec subscribe_commands([{Filter :: binary(), QoS :: 0..2}], state()) -> state().
subscribe_commands(Filters, State) ->
    lists:foldl(
        fun({Filter, QoS}, #state{subscriptions = Subscriptions, commands = Commands} = To) ->
            case Subscriptions of
                #{Filter := #{qos := QoS}} -> To;
                #{} -> try_subscribe(Filter, QoS, To#state{commands = add(Filter, Commands)})
            end
        end,
        State,
        Filters
    ).

%% @doc A new registration ends the one before and wants the same again: no command may be lost
%% between the two. What is not wanted any more goes with the device or with its mountpoint.
-spec unsubscribe_commands(Filter :: binary(), state()) -> state().
unsubscribe_commands(Filter, #state{clientinfo = ClientInfo} = State) ->
    case lists:keymember(Filter, 1, commands(maps:get(mountpoint, ClientInfo))) of
        true ->
            State;
        false ->
            shown(unsubscribe(Filter, State), State)
    end.

%% @doc In the client list, if the subscriptions are others.
-spec shown(state(), Former :: state()) -> state().
shown(#state{subscriptions = Same} = State, #state{subscriptions = Same}) ->
    State;
shown(State, _Former) ->
    lwm2m_gateway_emqx_channel:update_info(State),
    State.

%% @doc The configuration has changed.
-spec remount(Mountpoint :: binary(), state()) -> state().
remount(Mountpoint, #state{clientinfo = #{mountpoint := Mountpoint}} = State) ->
    State;
remount(Mountpoint, #state{clientinfo = ClientInfo} = State) ->
    Next = resubscribe(
        commands(Mountpoint), State#state{clientinfo = ClientInfo#{mountpoint := Mountpoint}}
    ),
    lwm2m_gateway_emqx_channel:update_info(Next),
    Next.

try_subscribe(Filter, QoS, #state{ctx = Ctx, clientinfo = ClientInfo} = State) ->
    Action = #{action_type => subscribe, qos => QoS},
    case emqx_gateway_ctx:authorize(Ctx, ClientInfo, Action, Filter) of
        allow ->
            Options = maps:merge(emqx_gateway_utils:default_subopts(), #{qos => QoS}),
            subscribe(Filter, Options, State);
        deny ->
            logger:warning(
                #{msg => "subscribe_denied", topic => Filter},
                maps:with([clientid, username], ClientInfo)
            ),
            State
    end.

%% @doc These filters for commands, and no others.
-spec resubscribe([{Filter :: binary(), QoS :: 0..2}], state()) -> state().
resubscribe(Filters, #state{commands = Former} = State) ->
    Wanted = [Filter || {Filter, _} <- Filters],
    Left = lists:foldl(fun unsubscribe/2, State, Former -- Wanted),
    subscribe_commands(Filters, Left).

-spec subscribe(Filter :: binary(), Options :: map(), state()) -> state().
subscribe(Filter, Options, #state{ctx = Ctx, clientinfo = ClientInfo} = State) ->
    #{clientid := ClientId} = ClientInfo,
    _ = emqx_broker:subscribe(Filter, ClientId, Options),
    ok = lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'session.subscribed', [ClientInfo, Filter, Options]),
    State#state{subscriptions = maps:put(Filter, Options, State#state.subscriptions)}.

-spec unsubscribe(Filter :: binary(), state()) -> state().
unsubscribe(Filter, #state{ctx = Ctx, subscriptions = Subscriptions} = State) ->
    case maps:take(Filter, Subscriptions) of
        {Options, Others} ->
            _ = emqx_broker:unsubscribe(Filter),
            %% Rules about this event want the options.
            Arguments = [State#state.clientinfo, Filter, Options],
            ok = lwm2m_gateway_emqx_channel:run_hooks(Ctx, 'session.unsubscribed', Arguments),
            State#state{
                subscriptions = Others, commands = lists:delete(Filter, State#state.commands)
            };
        error ->
            State
    end.

add(Filter, Filters) ->
    [Filter | lists:delete(Filter, Filters)].
