%% @doc A process that owns a gateway: it starts the gateway, passes its events to a callback module,
%% acknowledges them and stops the gateway at the end. Under a supervisor, the gateway restarts after
%% a crash of the callback module.
%%
%% ```
%% -module(my_gateway).
%% -behaviour(lwm2m_gateway_server).
%% -export([init/2, handle_event/2]).
%%
%% init(_Gateway, Broker) -> {ok, Broker}.
%%
%% handle_event({publish, _Kind, _Endpoint, Topic, Payload, QoS}, Broker) ->
%%     my_broker:publish(Broker, Topic, Payload, QoS),
%%     {ok, Broker};
%% handle_event(_, Broker) ->
%%     {ok, Broker}.
%% '''
%%
%% A batch is acknowledged when the callback has returned for each of its events. So a slow callback
%% slows the gateway down, but does not fill the memory. `log' events go to OTP's logger, with domain
%% `[lwm2m_gateway]'. When the server is told to stop, the callback still gets the last events.
-module(lwm2m_gateway_server).
-behaviour(gen_server).

-export([start_link/3, start_link/4, gateway/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([options/0]).

-type options() :: lwm2m_gateway:options().
%% `owner' has no effect: the owner is the server.

-callback init(lwm2m_gateway:gateway(), Args :: term()) -> {ok, State :: term()}.
%% Called when the gateway is running, before its first event.

-callback handle_event(lwm2m_gateway:event(), State :: term()) -> {ok, NewState :: term()}.
%% Called for each event except `log' and `stopped'.

-callback handle_info(Message :: term(), State :: term()) -> {ok, NewState :: term()}.
%% Called for messages that are not from the gateway.

-callback terminate(Reason :: term(), State :: term()) -> term().
%% Called after the gateway was stopped.

-optional_callbacks([handle_info/2, terminate/2]).

-record(server, {
    module :: module(),
    gateway :: lwm2m_gateway:gateway(),
    id :: lwm2m_gateway:id(),
    state :: term()
}).

%% @doc Starts a server without a name.
-spec start_link(module(), Args :: term(), options()) -> {ok, pid()} | {error, term()}.
start_link(Module, Args, Options) ->
    result(gen_server:start_link(?MODULE, {Module, Args, Options}, [])).

%% @doc Starts a server with a name.
-spec start_link({local, atom()}, module(), Args :: term(), options()) ->
    {ok, pid()} | {error, term()}.
start_link(Name, Module, Args, Options) ->
    result(gen_server:start_link(Name, ?MODULE, {Module, Args, Options}, [])).

result(ignore) -> {error, ignore};
result(Result) -> Result.

%% @doc The gateway of a server.
-spec gateway(pid() | atom()) -> lwm2m_gateway:gateway().
gateway(Server) ->
    gen_server:call(Server, gateway).

%% @private
-spec init({module(), term(), options()}) -> {ok, #server{}} | {stop, term()}.
init({Module, Args, Options}) ->
    _ = process_flag(trap_exit, true),
    % Batches may pile up while a callback runs; they shall not be collected as garbage again
    % and again.
    _ = process_flag(message_queue_data, off_heap),
    case lwm2m_gateway:start(Options#{owner => self()}) of
        {ok, Gateway} ->
            {ok, State} = Module:init(Gateway, Args),
            Id = lwm2m_gateway:id(Gateway),
            {ok, #server{module = Module, gateway = Gateway, id = Id, state = State}};
        {error, Reason} ->
            {stop, Reason}
    end.

%% @private
-spec handle_call(term(), gen_server:from(), #server{}) -> {reply, term(), #server{}}.
handle_call(gateway, _From, Server = #server{gateway = Gateway}) ->
    {reply, Gateway, Server};
handle_call(_Request, _From, Server) ->
    {reply, {error, unknown_call}, Server}.

%% @private
-spec handle_cast(term(), #server{}) -> {noreply, #server{}}.
handle_cast(_Request, Server) ->
    {noreply, Server}.

%% @private
-spec handle_info(term(), #server{}) -> {noreply, #server{}} | {stop, term(), #server{}}.
handle_info({lwm2m_gateway, Id, Batch, Events}, Server = #server{id = Id, gateway = Gateway}) ->
    case handle_events(Events, Server) of
        {ok, NewServer} ->
            ok = lwm2m_gateway:ack(Gateway, Batch),
            {noreply, NewServer};
        {stopped, NewServer} ->
            {stop, gateway_stopped, NewServer}
    end;
handle_info(Message, Server = #server{module = Module, state = State}) ->
    case erlang:function_exported(Module, handle_info, 2) of
        true ->
            {ok, NewState} = Module:handle_info(Message, State),
            {noreply, Server#server{state = NewState}};
        false ->
            {noreply, Server}
    end.

%% @private
-spec terminate(term(), #server{}) -> ok.
terminate(Reason, Server = #server{module = Module, gateway = Gateway}) ->
    _ = lwm2m_gateway:stop(Gateway),
    #server{state = State} = last_events(Reason, Server),
    case erlang:function_exported(Module, terminate, 2) of
        true ->
            _ = Module:terminate(Reason, State),
            ok;
        false ->
            ok
    end.

%% What came while the gateway stopped. After a crash the callback gets no more.
last_events(Reason, Server = #server{id = Id, gateway = Gateway}) ->
    Wanted = Reason =:= normal orelse Reason =:= shutdown,
    receive
        {lwm2m_gateway, Id, Batch, Events} when Wanted ->
            {_, NewServer} = handle_events(Events, Server),
            ok = lwm2m_gateway:ack(Gateway, Batch),
            last_events(Reason, NewServer)
    after 0 ->
        Server
    end.

handle_events([], Server) ->
    {ok, Server};
handle_events([{stopped, _}], Server) ->
    {stopped, Server};
handle_events([Log | Events], Server) when element(1, Log) =:= log ->
    ok = lwm2m_gateway:log(Log),
    handle_events(Events, Server);
handle_events([Event | Events], Server = #server{module = Module, state = State}) ->
    {ok, NewState} = Module:handle_event(Event, State),
    handle_events(Events, Server#server{state = NewState}).
