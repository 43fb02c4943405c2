%% @doc JSON for the stand-in: just enough for the tests.
-module(stand_in_json).

-export([encode/1, decode/1]).

encode(Map) when is_map(Map) ->
    Items = [[encode(text(K)), $:, encode(V)] || {K, V} <- maps:to_list(Map)],
    iolist_to_binary([${, lists:join($,, Items), $}]);
encode(List) when is_list(List) ->
    iolist_to_binary([$[, lists:join($,, [encode(V) || V <- List]), $]]);
encode(Word) when Word =:= true; Word =:= false; Word =:= null -> atom_to_binary(Word);
encode(Atom) when is_atom(Atom) -> encode(atom_to_binary(Atom));
encode(Number) when is_integer(Number) -> integer_to_binary(Number);
encode(Number) when is_float(Number) -> float_to_binary(Number, [short]);
encode(Text) when is_binary(Text) ->
    Escaped = [escape(C) || <<C>> <= Text],
    iolist_to_binary([$", Escaped, $"]).

text(Key) when is_atom(Key) -> atom_to_binary(Key);
text(Key) -> Key.

escape($") -> "\\\"";
escape($\\) -> "\\\\";
escape(C) when C < 32 -> io_lib:format("\\u~4.16.0b", [C]);
escape(C) -> C.

decode(Text) ->
    {Value, Rest} = value(space(Text)),
    <<>> = space(Rest),
    Value.

value(<<${, Rest/binary>>) -> object(space(Rest), #{});
value(<<$[, Rest/binary>>) -> list(space(Rest), []);
value(<<$", Rest/binary>>) -> string(Rest, []);
value(<<"true", Rest/binary>>) -> {true, Rest};
value(<<"false", Rest/binary>>) -> {false, Rest};
value(<<"null", Rest/binary>>) -> {null, Rest};
value(Text) ->
    {match, [{0, Length}]} = re:run(Text, "^-?[0-9]+(\\.[0-9]+)?([eE][+-]?[0-9]+)?"),
    <<Number:Length/binary, Rest/binary>> = Text,
    try {binary_to_integer(Number), Rest}
    catch error:badarg -> {binary_to_float(Number), Rest}
    end.

object(<<$}, Rest/binary>>, Map) -> {Map, Rest};
object(<<$,, Rest/binary>>, Map) -> object(space(Rest), Map);
object(<<$", Text/binary>>, Map) ->
    {Key, AfterKey} = string(Text, []),
    <<$:, AfterColon/binary>> = space(AfterKey),
    {Value, Rest} = value(space(AfterColon)),
    object(space(Rest), Map#{Key => Value}).

list(<<$], Rest/binary>>, List) -> {lists:reverse(List), Rest};
list(<<$,, Rest/binary>>, List) -> list(space(Rest), List);
list(Text, List) ->
    {Value, Rest} = value(Text),
    list(space(Rest), [Value | List]).

string(<<$", Rest/binary>>, Text) -> {iolist_to_binary(lists:reverse(Text)), Rest};
string(<<$\\, $n, Rest/binary>>, Text) -> string(Rest, [$\n | Text]);
string(<<$\\, C, Rest/binary>>, Text) when C =/= $u -> string(Rest, [C | Text]);
string(<<C, Rest/binary>>, Text) when C =/= $\\ -> string(Rest, [C | Text]).

space(<<C, Rest/binary>>) when C =:= $\s; C =:= $\n; C =:= $\r; C =:= $\t -> space(Rest);
space(Text) -> Text.
