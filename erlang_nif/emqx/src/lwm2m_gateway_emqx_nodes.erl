%% @doc Commands whose device nobody has, or a node that does not answer: they are answered in its place.
%% And which nodes those are: each asks the others whether they are there, since a node that is stopped in
%% its tracks (frozen, out of memory, on a machine that swaps) stays in the cluster for a minute, and EMQX
%% waits for it meanwhile.
-module(lwm2m_gateway_emqx_nodes).
-behaviour(gen_server).

-export([start_link/1, stop/1, unreachable/0]).

%% Hooks of EMQX.
-export([on_dropped/3, on_publish/1]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(TABLE, ?MODULE).
-define(PRIORITY, -1000).
%% How often others are asked, in milliseconds, and how many answers may be missing.
-define(PAUSE, 1000).
-define(MISSING, 5).
%% A node that has left the cluster without a word is not expected any more after so many milliseconds:
%% by then EMQX has long forgotten its subscriptions.
-define(FORGET, 120_000).

-record(state, {
    pause :: pos_integer(),
    %% When a node has answered last; only of those that run the plugin.
    answered = #{} :: #{node() => integer()},
    unreachable = [] :: [node()],
    %% Those of them that EMQX knows to be down.
    down = [] :: [node()],
    %% Looks at what is published.
    heeds = false :: boolean(),
    %% When this node was asking last.
    last :: integer()
}).

-spec start_link(lwm2m_gateway:gateway()) -> {ok, pid()} | {error, term()}.
start_link(Gateway) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Gateway, []).

-spec stop(pid()) -> ok.
stop(Pid) ->
    true = unlink(Pid),
    gen_server:stop(Pid, shutdown, 1000).

%% @doc Nodes with the plugin that do not answer.
-spec unreachable() -> [node()].
unreachable() ->
    try
        ets:lookup_element(?TABLE, unreachable, 2)
    catch
        error:badarg -> []
    end.

%% @doc Nobody has subscribed: no node has the device.
-spec on_dropped(Message :: term(), map(), Reason :: atom()) -> ok.
on_dropped(Message, _Info, no_subscribers) ->
    case emqx_message:get_flag(retain, Message, false) of
        %% A stored message comes when its device does.
        true -> ok;
        false -> answer(fun lwm2m_gateway:refuse_absent/4, Message)
    end;
on_dropped(_Message, _Info, _Reason) ->
    ok.

%% @doc There is only while there are other nodes with the plugin. Most messages are no commands, and
%% most commands are for devices of this node.
-spec on_publish(Message :: term()) -> ok.
on_publish(Message) ->
    try
        Topic = emqx_message:topic(Message),
        [{_, Gateway, Sign}] = ets:lookup(?TABLE, gateway),
        case is_like(Sign, Topic) andalso lwm2m_gateway:is_command(Gateway, Topic) of
            true -> passed_on(nodes_of(Topic), Message);
            false -> ok
        end
    catch
        _:_ -> ok
    end.

%% What there is in the topic of every command, or nothing.
sign() ->
    #{commands := Commands} = lwm2m_gateway_emqx_settings:current(),
    Signs = [hd(binary:split(Topic, [<<"#">>, <<"+">>])) || {Topic, _} <- Commands],
    case lists:member(<<>>, Signs) of
        true -> none;
        false -> Signs
    end.

is_like(none, _Topic) -> true;
is_like(Signs, Topic) -> binary:match(Topic, Signs) =/= nomatch.

%% Those where a device has subscribed.
nodes_of(Topic) ->
    #{commands := Commands} = lwm2m_gateway_emqx_settings:current(),
    lists:usort([
        Node
     || {route, Filter, Node} <- emqx_router:match_routes(Topic),
        is_atom(Node),
        lists:any(fun({Command, _}) -> ends_with(Filter, Command) end, Commands)
    ]).

passed_on([], _Message) ->
    ok;
passed_on(Nodes, Message) ->
    case {lists:member(node(), Nodes), Nodes -- unreachable()} of
        {true, _} -> ok;
        {false, []} -> answer(fun lwm2m_gateway:refuse_unreachable/4, Message);
        {false, _} -> lwm2m_gateway_emqx_sent:add(Nodes, Message)
    end.

ends_with(Filter, Command) ->
    Length = byte_size(Filter) - byte_size(Command),
    Length >= 0 andalso binary:part(Filter, Length, byte_size(Command)) =:= Command.

%% Nothing here is worth an error where it is published.
answer(How, Message) ->
    try
        [{_, Gateway, _}] = ets:lookup(?TABLE, gateway),
        Topic = emqx_message:topic(Message),
        Payload = emqx_message:payload(Message),
        case Payload =/= <<>> andalso lwm2m_gateway:is_command(Gateway, Topic) of
            true -> How(Gateway, Topic, Payload, lwm2m_gateway_emqx_messages:properties(Message));
            false -> ok
        end
    of
        _ -> ok
    catch
        _:_ -> ok
    end.

init(Gateway) ->
    _ = process_flag(trap_exit, true),
    ?TABLE = ets:new(?TABLE, [named_table, protected, {read_concurrency, true}]),
    true = ets:insert(?TABLE, [{gateway, Gateway, sign()}, {unreachable, []}]),
    ok = lwm2m_gateway_emqx_sent:new(),
    ok = net_kernel:monitor_nodes(true),
    %% Of one that was killed.
    _ = unhook(),
    ok = emqx_hooks:add('message.dropped', {?MODULE, on_dropped, []}, ?PRIORITY),
    self() ! ask,
    {ok, #state{
        pause = application:get_env(lwm2m_gateway, nodes_pause, ?PAUSE),
        last = erlang:monotonic_time(millisecond)
    }}.

handle_call(_Request, _From, State) ->
    {reply, ignored, State}.

handle_cast(_Message, State) ->
    {noreply, State}.

handle_info(ask, #state{pause = Pause, last = Last} = State) ->
    _ = erlang:send_after(Pause, self(), ask),
    Now = erlang:monotonic_time(millisecond),
    case Now - Last > ?MISSING * Pause of
        true ->
            %% This node is the one that was away. What others have meanwhile is theirs.
            lwm2m_gateway_emqx_owner ! thawed,
            Known = maps:map(fun(_, _) -> Now end, State#state.answered),
            {noreply, ask(State#state{last = Now, answered = Known})};
        false ->
            {noreply, ask(judge(Now, State#state{last = Now}))}
    end;
handle_info({there, From}, State) ->
    _ = erlang:send(From, {here, node()}, [nosuspend, noconnect]),
    {noreply, State};
handle_info({here, Node}, #state{answered = Answered, down = Down} = State) ->
    Now = erlang:monotonic_time(millisecond),
    {noreply, heeding(State#state{answered = Answered#{Node => Now}, down = lists:delete(Node, Down)})};
handle_info({bye, Node}, #state{answered = Answered} = State) ->
    Now = erlang:monotonic_time(millisecond),
    {noreply, judge(Now, State#state{answered = maps:remove(Node, Answered)})};
%% Killed, most likely: nobody has to wait until it has not answered for a while.
handle_info({nodedown, Node}, #state{answered = Answered} = State) when is_map_key(Node, Answered) ->
    {noreply, judge(erlang:monotonic_time(millisecond), State#state{down = [Node | State#state.down]})};
handle_info({nodeup, Node}, #state{down = Down} = State) ->
    {noreply, State#state{down = lists:delete(Node, Down)}};
handle_info(_Message, State) ->
    {noreply, State}.

terminate(_Reason, #state{answered = Answered}) ->
    _ = unhook(),
    tell(maps:keys(Answered), {bye, node()}).

unhook() ->
    _ = (catch emqx_hooks:del('message.publish', {?MODULE, on_publish})),
    catch emqx_hooks:del('message.dropped', {?MODULE, on_dropped}).

ask(State) ->
    ok = tell(nodes(), {there, self()}),
    State.

%% Never waits: not for a node that does not take anything, nor for a connection.
tell(Nodes, Message) ->
    lists:foreach(
        fun(Node) -> erlang:send({?MODULE, Node}, Message, [nosuspend, noconnect]) end, Nodes
    ).

judge(Now, #state{pause = Pause, answered = Answered, down = Down, unreachable = Former} = State) ->
    Known = maps:filter(fun(_, At) -> Now - At < ?FORGET end, Answered),
    Silent = [Node || {Node, At} <- maps:to_list(Known), Now - At > ?MISSING * Pause],
    Unreachable = lists:usort(Silent ++ [Node || Node <- Down, is_map_key(Node, Known)]),
    Unreachable =:= Former orelse changed(Former, Unreachable),
    %% A command may have been carried out if the node was there a moment after it. One that was there
    %% later had it.
    Sent = lwm2m_gateway_emqx_sent:take(Unreachable, Known),
    lists:foreach(
        fun(Message) -> answer(fun lwm2m_gateway:refuse_unreachable/4, Message) end, Sent
    ),
    heeding(State#state{
        answered = Known,
        unreachable = Unreachable,
        down = [Node || Node <- Down, is_map_key(Node, Known)]
    }).

changed(Former, New) ->
    logger:warning(#{msg => "lwm2m_nodes_do_not_answer", nodes => New}),
    true = ets:insert(?TABLE, {unreachable, New}),
    _ =
        case New -- Former of
            [] -> ok;
            Gone -> lwm2m_gateway_emqx_owner ! {unreachable, Gone}
        end,
    ok.

heeding(#state{answered = Answered, heeds = Heeds} = State) ->
    case map_size(Answered) > 0 of
        Heeds ->
            State;
        true ->
            _ = emqx_hooks:add('message.publish', {?MODULE, on_publish, []}, ?PRIORITY),
            State#state{heeds = true};
        false ->
            _ = emqx_hooks:del('message.publish', {?MODULE, on_publish}),
            State#state{heeds = false}
    end.
