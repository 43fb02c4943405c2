%% @doc The last results of a device, for the `lookup' of EMQX's HTTP API: one for each path and
%% kind of message, the oldest goes first. Payloads are kept as they were published and decoded
%% when somebody asks.
-module(lwm2m_gateway_emqx_results).

-export([new/0, requested/2, answered/2, notified/2, find/3, to_map/1, from_map/1]).

-export_type([results/0, result/0]).

-define(MAX_RESULTS, 100).
-define(MAX_BYTES, 1_000_000).

-type key() :: {Path :: binary(), MsgType :: binary()}.

-record(results, {
    %% Oldest first.
    keys = [] :: [key()],
    values = #{} :: #{key() => pending | binary()},
    %% The newest notification by path.
    notifications = #{} :: #{Path :: binary() => binary()}
}).

-opaque results() :: #results{}.

-type result() ::
    undefined | {Code :: binary(), CodeMsg :: binary(), Content :: term() | undefined}.

-spec new() -> results().
new() ->
    #results{}.

%% @doc A command went out: what was known before does not count any more.
-spec requested(Command :: map(), results()) -> results().
requested(#{<<"msgType">> := Type, <<"data">> := #{} = Data}, Results) when is_binary(Type) ->
    case Data of
        #{<<"path">> := Path} when is_binary(Path) -> put(path(Path), Type, pending, Results);
        #{<<"basePath">> := Path} when is_binary(Path) -> put(path(Path), Type, pending, Results);
        #{} -> Results
    end;
requested(_Command, Results) ->
    Results.

%% @doc An answer was published.
-spec answered(Payload :: binary(), results()) -> results().
answered(Payload, Results) when byte_size(Payload) =< ?MAX_BYTES ->
    case emqx_utils_json:safe_decode(Payload, [return_maps]) of
        {ok, #{<<"msgType">> := Type, <<"data">> := #{<<"reqPath">> := Path}}} when
            is_binary(Type), is_binary(Path)
        ->
            put(Path, Type, binary:copy(Payload), Results);
        _ ->
            Results
    end;
answered(_Payload, Results) ->
    Results.

%% @doc A notification was published. Not worth decoding: the path is taken from the text, and
%% {@link find/3} looks closer.
-spec notified(Payload :: binary(), results()) -> results().
notified(Payload, #results{notifications = Notifications} = Results) when
    byte_size(Payload) =< ?MAX_BYTES div ?MAX_RESULTS
->
    case path_in(Payload) of
        undefined ->
            Results;
        Path when map_size(Notifications) < ?MAX_RESULTS; is_map_key(Path, Notifications) ->
            Results#results{notifications = Notifications#{Path => Payload}};
        _Path ->
            Results
    end;
notified(_Payload, Results) ->
    Results.

%% @doc What there is for a path and a kind. A notification is a newer result of `observe'.
-spec find(Path :: binary(), MsgType :: binary(), results()) -> result().
find(Path, <<"observe">> = Type, #results{notifications = Notifications} = Results) ->
    case Notifications of
        #{Path := Payload} ->
            case result(Path, Payload) of
                undefined -> value(Path, Type, Results);
                Result -> Result
            end;
        #{} ->
            value(Path, Type, Results)
    end;
find(Path, Type, Results) ->
    value(Path, Type, Results).

%% @doc For another node, whose record may differ.
-spec to_map(results()) -> map().
to_map(#results{keys = Keys, values = Values, notifications = Notifications}) ->
    #{keys => Keys, values => Values, notifications => Notifications}.

-spec from_map(map()) -> results().
from_map(#{keys := Keys, values := Values, notifications := Notifications}) ->
    #results{keys = Keys, values = Values, notifications = Notifications}.

value(Path, Type, #results{values = Values}) ->
    case Values of
        #{{Path, Type} := Payload} when is_binary(Payload) ->
            for_type(Type, result(Path, Payload));
        #{} ->
            undefined
    end.

result(Path, Payload) ->
    case emqx_utils_json:safe_decode(Payload, [return_maps]) of
        {ok, #{<<"data">> := #{<<"reqPath">> := Path, <<"code">> := Code} = Data}} ->
            {Code, maps:get(<<"codeMsg">>, Data, <<>>), maps:get(<<"content">>, Data, undefined)};
        _ ->
            undefined
    end.

%% EMQX's API looks at the object of the first link and at the resources in the second item of the
%% list, which may hold several links with commas between. So all resources go there. It fails on
%% links that are no resources, or none that the definition of the object knows.
for_type(<<"discover">>, {Code, CodeMsg, [First | _] = Links}) when is_binary(First) ->
    Targets = [target(Link) || Link <- Links, is_binary(Link)],
    case [{Target, Object} || Target <- Targets, [Object | _] <- [segments(Target)]] of
        [{Head, Object} | _] ->
            case known_resources(Object, Targets) of
                undefined -> {Code, CodeMsg, undefined};
                [] -> {Code, CodeMsg, [Head]};
                Known -> {Code, CodeMsg, [Head, iolist_to_binary(lists:join($,, Known))]}
            end;
        [] ->
            {Code, CodeMsg, undefined}
    end;
for_type(<<"discover">>, {Code, CodeMsg, _}) ->
    {Code, CodeMsg, undefined};
for_type(_Type, Result) ->
    Result.

target(Link) ->
    case binary:split(Link, <<";">>) of
        [Target | _] -> string:trim(Target)
    end.

known_resources(Object, Targets) ->
    Resources = [{Target, Id} || Target <- Targets, [_, _, Id | _] <- [segments(Target)]],
    try emqx_lwm2m_xml_object:get_obj_def(binary_to_integer(Object), true) of
        {error, _} ->
            [Target || {Target, _} <- Resources];
        Definition ->
            [Target || {Target, Id} <- Resources, is_defined(binary_to_integer(Id), Definition)]
    catch
        error:badarg ->
            undefined
    end.

is_defined(Resource, Definition) ->
    try
        _ = emqx_lwm2m_xml_object:get_resource_name(Resource, Definition),
        case emqx_lwm2m_xml_object:get_resource_operations(Resource, Definition) of
            "E" ->
                true;
            _ ->
                _ = emqx_lwm2m_xml_object:get_resource_type(Resource, Definition),
                true
        end
    catch
        error:_ -> false
    end.

%% Of a link target in angle brackets; nothing unless all are numbers.
segments(Target) ->
    Path = string:trim(Target, both, "<>/"),
    Segments = binary:split(Path, <<"/">>, [global]),
    case lists:all(fun is_number_text/1, Segments) of
        true when length(Segments) =< 4 -> Segments;
        _ -> []
    end.

is_number_text(<<>>) -> false;
is_number_text(Text) -> lists:all(fun(C) -> C >= $0 andalso C =< $9 end, binary_to_list(Text)).

put(Path, Type, Value, #results{keys = Keys, values = Values} = Results) ->
    Key = {binary:copy(Path), binary:copy(Type)},
    Notifications =
        case Type of
            <<"observe">> -> maps:remove(Path, Results#results.notifications);
            _ -> Results#results.notifications
        end,
    limit(Results#results{
        keys = lists:delete(Key, Keys) ++ [Key],
        values = Values#{Key => Value},
        notifications = Notifications
    }).

limit(#results{keys = [Oldest | Keys], values = Values} = Results) ->
    Bytes = lists:sum([byte_size(Value) || Value <- maps:values(Values), is_binary(Value)]),
    case map_size(Values) > ?MAX_RESULTS orelse (Bytes > ?MAX_BYTES andalso Keys =/= []) of
        true -> limit(Results#results{keys = Keys, values = maps:remove(Oldest, Values)});
        false -> Results
    end.

path(Path) -> hd(binary:split(Path, <<"?">>)).

path_in(Payload) ->
    case binary:match(Payload, <<"\"reqPath\":\"">>) of
        {At, Length} ->
            Start = At + Length,
            case binary:match(Payload, <<"\"">>, [{scope, {Start, byte_size(Payload) - Start}}]) of
                {End, _} when End - Start =< 64 ->
                    binary:copy(binary:part(Payload, Start, End - Start));
                _ ->
                    undefined
            end;
        nomatch ->
            undefined
    end.
