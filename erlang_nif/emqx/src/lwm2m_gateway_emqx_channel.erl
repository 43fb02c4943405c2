%% @private What EMQX knows of a device: its log, its hooks, the client list, and the note in the store.
-module(lwm2m_gateway_emqx_channel).

-export([
    cancel/1, channel_info/1, channel_stats/1, ensure_stats/1, insert_info/1, keep_note/1,
    keep_note/2, run_hooks/3, run_hooks/4, session_info/1, trace_as/1, update_info/1, update_stats/1
]).

-include("lwm2m_gateway_emqx_device.hrl").

-define(STATS_INTERVAL, 30_000).

%% @doc What EMQX writes into its log and its traces from here on is of this client: authentication,
%% authorization, subscriptions, messages.
-spec trace_as(ConnInfo :: map()) -> ok.
trace_as(#{clientid := ClientId, peername := Peer}) ->
    ok = emqx_logger:set_metadata_clientid(ClientId),
    emqx_logger:set_metadata_peername(esockd:format(Peer));
trace_as(_NotConnected) ->
    ok.

%% @doc For the next start. What is the same is written once for each registration.
-spec keep_note(Info :: map(), state()) -> state().
keep_note(#{registered_at := At}, State) ->
    #state{clientinfo = ClientInfo, subscriptions = All, commands = Commands} = State,
    case lwm2m_gateway_emqx_settings:current() of
        #{stores := true} ->
            Note = lwm2m_gateway_emqx_restored:note(ClientInfo, maps:without(Commands, All)),
            case {At, erlang:phash2(Note)} of
                Same when Same =:= State#state.noted ->
                    State;
                New ->
                    #state{gateway = Gateway, endpoint = Endpoint} = State,
                    _ = lwm2m_gateway:note(Gateway, Endpoint, term_to_binary(Note)),
                    State#state{noted = New}
            end;
        #{} ->
            State
    end.

%% @doc Subscriptions have changed.
-spec keep_note(state()) -> state().
keep_note(#state{registered = true, noted = {At, _}} = State) ->
    keep_note(#{registered_at => At}, State);
keep_note(State) ->
    State.

-spec channel_info(state()) -> map().
channel_info(State) ->
    #state{conninfo = ConnInfo, clientinfo = ClientInfo, conn_state = ConnState} = State,
    #{
        conninfo => ConnInfo,
        conn_state => ConnState,
        clientinfo => ClientInfo,
        session => session_info(State),
        sockinfo => maps:merge(
            #{sockstate => running, active_n => undefined},
            maps:with([socktype, peername, sockname], ConnInfo)
        )
    }.

-spec session_info(state()) -> map().
session_info(#state{created_at = CreatedAt, subscriptions = Subscriptions}) ->
    lwm2m_gateway_emqx_client:session(CreatedAt, Subscriptions).

-spec channel_stats(state()) -> [{atom(), term()}].
channel_stats(#state{received = Received, sent = Sent, subscriptions = Subscriptions}) ->
    lwm2m_gateway_emqx_client:stats(Received, Sent, Subscriptions).

-spec insert_info(state()) -> term().
insert_info(#state{ctx = Ctx, clientinfo = #{clientid := ClientId}} = State) ->
    emqx_gateway_ctx:insert_channel_info(
        Ctx, ClientId, channel_info(State), channel_stats(State)
    ).

-spec update_info(state()) -> ok.
update_info(#state{ctx = Ctx, clientinfo = #{clientid := ClientId}} = State) ->
    _ = emqx_gateway_ctx:set_chan_info(Ctx, ClientId, channel_info(State)),
    update_stats(State).

-spec update_stats(state()) -> ok.
update_stats(#state{conn_state = connected, ctx = Ctx, clientinfo = #{clientid := ClientId}} = State) ->
    _ = emqx_gateway_ctx:set_chan_stats(Ctx, ClientId, channel_stats(State)),
    ok;
update_stats(_State) ->
    ok.

%% @doc Soon in the client list.
-spec ensure_stats(state()) -> state().
ensure_stats(#state{stats_timer = undefined} = State) ->
    case lwm2m_gateway_emqx_settings:current() of
        #{enable_stats := true} ->
            Timer = erlang:start_timer(?STATS_INTERVAL, self(), stats),
            State#state{stats_timer = Timer};
        #{} ->
            State
    end;
ensure_stats(State) ->
    State.

%% @doc EMQX counts the hooks of a gateway.
-spec run_hooks(Ctx :: map(), Name :: atom(), Args :: list()) -> ok.
run_hooks(Ctx, Name, Args) ->
    emqx_gateway_ctx:metrics_inc(Ctx, Name),
    _ = emqx_hooks:run(Name, Args),
    ok.

-spec run_hooks(Ctx :: map(), Name :: atom(), Args :: list(), Acc) -> Acc.
run_hooks(Ctx, Name, Args, Acc) ->
    emqx_gateway_ctx:metrics_inc(Ctx, Name),
    emqx_hooks:run_fold(Name, Args, Acc).

-spec cancel(undefined | reference()) -> ok.
cancel(undefined) ->
    ok;
cancel(Timer) ->
    _ = erlang:cancel_timer(Timer),
    ok.
