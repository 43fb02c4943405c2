%% @doc An entry among EMQX's listeners (esockd) for each listener of the gateway. The socket is
%% the native library's; the entry is what the dashboard and the REST API look at when they tell
%% whether a listener runs and how many devices it has.
-module(lwm2m_gateway_emqx_listener).
-behaviour(gen_server).

-export([update/2, close/1, start_link/2]).

%% What esockd asks of the module of a listener.
-export([get_current_connections/1, get_max_connections/1, get_acceptors/1, get_shutdown_count/1]).
-export([get_options/2, get_access_rules/1]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-type name() :: {Id :: atom(), ListenOn :: term()}.

%% With the most devices of each.
-type entries() :: #{name() => term()}.

-export_type([name/0, entries/0]).

%% @doc Entries for the listeners that run, and no others.
-spec update(lwm2m_gateway:gateway(), Open :: entries()) -> entries().
update(Gateway, Open) ->
    #{listeners := Configured} = lwm2m_gateway_emqx_settings:current(),
    Bound = lwm2m_gateway:listeners(Gateway),
    ok = lwm2m_gateway_emqx_settings:put_addresses(Bound),
    Running = maps:from_list([
        {{Id, Bind}, Max}
     || {Name, _Address} <- Bound,
        #{Name := #{id := Id, bind := Bind, max_connections := Max}} <- [Configured]
    ]),
    maps:foreach(
        fun(Name, Max) ->
            case Running of
                #{Name := Max} -> ok;
                #{} -> _ = close(Name)
            end
        end,
        Open
    ),
    maps:foreach(
        fun(Name, Max) ->
            case Open of
                #{Name := Max} -> ok;
                #{} -> show(Name, Max)
            end
        end,
        Running
    ),
    Running.

show({Id, _} = Name, Max) ->
    case open(Name, #{id => Id, max_connections => Max}) of
        ok ->
            ok;
        {error, Reason} ->
            logger:warning(#{msg => "lwm2m_listener_not_shown", name => Name, reason => Reason})
    end.

open({Id, ListenOn} = Name, Options) ->
    Spec = #{
        id => esockd_sup:child_id(Id, ListenOn),
        start => {?MODULE, start_link, [Options, self()]},
        restart => temporary,
        shutdown => 1000,
        type => worker,
        modules => [?MODULE]
    },
    case start(Spec) of
        {error, {already_started, _}} ->
            %% Of an owner that crashed.
            _ = close(Name),
            start(Spec);
        Result ->
            Result
    end.

start(Spec) ->
    case esockd_sup:start_child(Spec) of
        {ok, _} -> ok;
        {error, _} = Error -> Error
    end.

-spec close(name()) -> ok | {error, term()}.
close({Id, ListenOn}) ->
    esockd:close(Id, ListenOn).

start_link(Options, Owner) ->
    gen_server:start_link(?MODULE, {Options, Owner}, []).

get_current_connections(Pid) -> gen_server:call(Pid, current_connections).
get_max_connections(Pid) -> gen_server:call(Pid, max_connections).
get_acceptors(_Pid) -> 0.
get_shutdown_count(_Pid) -> [].
get_options(_Name, _Pid) -> [].
get_access_rules(_Pid) -> [].

init({Options, Owner}) ->
    _ = monitor(process, Owner),
    {ok, Options, hibernate}.

handle_call(current_connections, _From, #{id := Id} = Options) ->
    {reply, lwm2m_gateway_emqx_devices:count(Id), Options, hibernate};
handle_call(max_connections, _From, #{max_connections := Max} = Options) ->
    {reply, Max, Options, hibernate};
handle_call(_Request, _From, Options) ->
    {reply, ignored, Options, hibernate}.

handle_cast(_Message, Options) ->
    {noreply, Options, hibernate}.

handle_info({'DOWN', _, process, _, _}, Options) ->
    {stop, normal, Options};
handle_info(_Message, Options) ->
    {noreply, Options, hibernate}.
