%% @doc Keeps the owner of the gateway running while EMQX has the gateway loaded: one that crashed
%% is started again with the configuration as it is then, the first time at once, then after
%% growing pauses.
-module(lwm2m_gateway_emqx_keeper).
-behaviour(gen_server).

-export([start_link/2, gateway_config/1]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(OWNER, lwm2m_gateway_emqx_owner).
-define(CALL_TIMEOUT, 15_000).
%% The owner needs so much to stop.
-define(STOP_TIMEOUT, 3_800).
-define(FIRST_PAUSE, 500).
-define(LONGEST_PAUSE, 60_000).
%% An owner that has run so long is a new beginning.
-define(STABLE, 60_000).

-record(state, {
    config :: map(),
    ctx :: map(),
    owner :: pid() | undefined,
    %% Runs while there is an owner until it is stable, or while there is none until the next try.
    timer :: reference() | undefined,
    pause = 0 :: non_neg_integer()
}).

-spec start_link(map(), map()) -> {ok, pid()} | {error, term()}.
start_link(Config, Ctx) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, {Config, Ctx}, []).

%% @doc The configuration of EMQX's gateway has changed.
-spec gateway_config(map()) -> ok | {error, term()}.
gateway_config(Config) ->
    gen_server:call(?MODULE, {gateway_config, Config}, ?CALL_TIMEOUT).

init({Config, Ctx}) ->
    _ = process_flag(trap_exit, true),
    case ?OWNER:start_link(Config, Ctx) of
        {ok, Owner} -> {ok, #state{config = Config, ctx = Ctx, owner = Owner}};
        {error, Reason} -> {stop, Reason}
    end.

handle_call({gateway_config, Config}, _From, #state{owner = undefined} = State) ->
    %% Perhaps this is what it takes.
    case ?OWNER:start_link(Config, State#state.ctx) of
        {ok, Owner} -> {reply, ok, started(Owner, State#state{config = Config})};
        {error, _} = Error -> {reply, Error, State}
    end;
handle_call({gateway_config, Config}, _From, State) ->
    try ?OWNER:gateway_config(Config) of
        ok -> {reply, ok, State#state{config = Config}};
        {error, _} = Error -> {reply, Error, State}
    catch
        exit:{Reason, _} -> {reply, {error, Reason}, State}
    end;
handle_call(_Request, _From, State) ->
    {reply, ignored, State}.

handle_cast(_Message, State) ->
    {noreply, State}.

handle_info({'EXIT', Owner, Reason}, #state{owner = Owner, pause = Pause} = State) ->
    logger:error(#{msg => "lwm2m_gateway_crashed", reason => Reason}),
    Pause =:= 0 orelse down(Reason),
    {noreply, later(State#state{owner = undefined})};
handle_info({timeout, Timer, start}, #state{timer = Timer} = State) ->
    case ?OWNER:start_link(State#state.config, State#state.ctx) of
        {ok, Owner} ->
            {noreply, started(Owner, State)};
        {error, Reason} ->
            down(Reason),
            {noreply, later(State)}
    end;
handle_info({timeout, Timer, stable}, #state{timer = Timer} = State) ->
    ok = lwm2m_gateway_emqx_alarm:clear(down),
    {noreply, State#state{timer = undefined, pause = 0}};
handle_info(_Message, State) ->
    {noreply, State}.

terminate(_Reason, #state{owner = Owner}) ->
    stop(Owner),
    lwm2m_gateway_emqx_alarm:clear(down).

stop(undefined) ->
    ok;
stop(Owner) ->
    true = exit(Owner, shutdown),
    receive
        {'EXIT', Owner, _} -> ok
    after ?STOP_TIMEOUT ->
        true = exit(Owner, kill)
    end.

down(Reason) ->
    lwm2m_gateway_emqx_alarm:raise(
        down, Reason, <<"The LwM2M gateway crashed; it is being started again">>
    ).

%% The first crash in a while costs no pause.
later(#state{pause = 0} = State) ->
    wait(0, start, State#state{pause = ?FIRST_PAUSE});
later(#state{pause = Pause} = State) ->
    wait(Pause, start, State#state{pause = min(2 * Pause, ?LONGEST_PAUSE)}).

started(Owner, State) ->
    wait(?STABLE, stable, State#state{owner = Owner}).

wait(Milliseconds, What, #state{timer = Former} = State) ->
    _ = Former =:= undefined orelse erlang:cancel_timer(Former),
    State#state{timer = erlang:start_timer(Milliseconds, self(), What)}.
