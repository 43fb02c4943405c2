%% A callback module for the tests: tells a process what comes.
-module(collector).
-behaviour(lwm2m_gateway_server).

-export([init/2, handle_event/2, handle_info/2, terminate/2]).

init(Gateway, To) ->
    To ! {started, self(), Gateway},
    {ok, {To, 0}}.

handle_event({publish, register, <<"crash">>, _, _, _}, _) ->
    error(crash);
handle_event(Event, {To, Count}) ->
    To ! {event, Event},
    {ok, {To, Count + 1}}.

handle_info(Message, {To, Count}) ->
    To ! {info, Message},
    {ok, {To, Count}}.

terminate(Reason, {To, Count}) ->
    To ! {terminated, Reason, Count}.
