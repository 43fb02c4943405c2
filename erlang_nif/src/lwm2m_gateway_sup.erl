%% @private One server for each gateway that the environment of the application names.
-module(lwm2m_gateway_sup).
-behaviour(supervisor).

-export([start_link/1]).
-export([init/1]).

-type gateway() ::
    {Name :: atom(), Module :: module(), Args :: term(), lwm2m_gateway_server:options()}.

-spec start_link([gateway()]) -> supervisor:startlink_ret().
start_link(Gateways) ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, Gateways).

-spec init([gateway()]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Gateways) ->
    Flags = #{strategy => one_for_one, intensity => 5, period => 60},
    {ok, {Flags, [child(Gateway) || Gateway <- Gateways]}}.

child({Name, Module, Args, Options}) ->
    #{
        id => Name,
        start => {lwm2m_gateway_server, start_link, [{local, Name}, Module, Args, Options]},
        shutdown => 10000,
        modules => [lwm2m_gateway_server, Module]
    }.
