%% @doc Commands that this node has passed on to others in the last seconds, so that they can be answered
%% when it turns out that the other one was not there any more.
-module(lwm2m_gateway_emqx_sent).

-export([new/0, add/2, take/2]).

-define(TABLE, ?MODULE).
%% Beyond, a command is passed on without being remembered.
-define(MAX_COMMANDS, 20_000).
-define(MAX_BYTES, 16_000_000).
-define(BYTES, bytes).

%% @doc The table, of the calling process.
-spec new() -> ok.
new() ->
    Options = [named_table, public, ordered_set, {write_concurrency, true}],
    ?TABLE = ets:new(?TABLE, Options),
    true = ets:insert(?TABLE, {?BYTES, 0}),
    ok.

%% @doc Remembers a message that goes to these nodes; called where it is published.
-spec add([node()], Message :: term()) -> ok.
add(Nodes, Message) ->
    Size = byte_size(emqx_message:payload(Message)),
    Bytes = ets:update_counter(?TABLE, ?BYTES, Size),
    _ =
        case Bytes =< ?MAX_BYTES andalso ets:info(?TABLE, size) =< ?MAX_COMMANDS of
            true ->
                Key = {erlang:monotonic_time(millisecond), erlang:unique_integer()},
                true = ets:insert(?TABLE, {Key, Nodes, Size, Message});
            false ->
                ets:update_counter(?TABLE, ?BYTES, -Size)
        end,
    ok.

%% @doc The messages that only nodes of `Gone' have got, since each of them was there last. Those that
%% `Answered', when a node was there last, says have arrived are forgotten.
-spec take(Gone :: [node()], Answered :: #{node() => integer()}) -> [Message :: term()].
take(Gone, Answered) ->
    %% An atom is before all tuples.
    take(ets:next(?TABLE, ?BYTES), Gone, Answered, []).

take({_, _} = Key, Gone, Answered, Taken) ->
    Next = ets:next(?TABLE, Key),
    case ets:lookup(?TABLE, Key) of
        [{{At, _}, Nodes, _, Message}] ->
            Left = [N || N <- Nodes, At >= maps:get(N, Answered, At + 1)],
            case {Left, Left -- Gone} of
                {[], _} ->
                    ok = forget(Key),
                    take(Next, Gone, Answered, Taken);
                {_, []} ->
                    ok = forget(Key),
                    take(Next, Gone, Answered, [Message | Taken]);
                {_, _} ->
                    take(Next, Gone, Answered, Taken)
            end;
        [] ->
            take(Next, Gone, Answered, Taken)
    end;
take(_, _Gone, _Answered, Taken) ->
    lists:reverse(Taken).

forget(Key) ->
    case ets:take(?TABLE, Key) of
        [{_, _, Size, _}] ->
            _ = ets:update_counter(?TABLE, ?BYTES, -Size),
            ok;
        [] ->
            ok
    end.
