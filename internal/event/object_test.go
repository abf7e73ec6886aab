package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func parse(t *testing.T, raw string) Object {
	t.Helper()
	o, err := ParseObject([]byte(raw))
	if err != nil {
		t.Fatalf("parse %s: %v", raw, err)
	}
	return o
}

// What With does not set leaves as it came, byte for byte.
func TestWith(t *testing.T) {
	for name, c := range map[string]struct {
		raw  string
		set  []Member
		want string
	}{
		"nothing":        {`{"amount":"120.50"}`, nil, `{"amount":"120.50"}`},
		"append":         {`{"amount":1e3}`, []Member{Text("a", "x")}, `{"amount":1e3,"a":"x"}`},
		"append two":     {`{"n":9007199254740993}`, []Member{Text("a", "x"), Text("b", "y")}, `{"n":9007199254740993,"a":"x","b":"y"}`},
		"empty object":   {`{}`, []Member{Text("a", "x"), Text("b", "y")}, `{"a":"x","b":"y"}`},
		"empty, spaces":  {"{ \n }", []Member{Text("a", "x")}, "{ \n \"a\":\"x\"}"},
		"replace":        {`{"b":1,"a":2,"c":3}`, []Member{Text("a", "x")}, `{"b":1,"a":"x","c":3}`},
		"out of order":   {`{"b":1,"a":2}`, []Member{Text("a", "x"), Text("b", "y")}, `{"b":"y","a":"x"}`},
		"both":           {`{"b":1}`, []Member{Text("c", "z"), Text("b", "y")}, `{"b":"y","c":"z"}`},
		"white space":    {"{ \"b\" :\t1.0 ,\n\"a\" : 2 }", []Member{Text("a", "x")}, "{ \"b\" :\t1.0 ,\n\"a\" : \"x\" }"},
		"duplicates":     {`{"a":1,"b":2,"a":3}`, []Member{Text("a", "x")}, `{"a":"x","b":2,"a":"x"}`},
		"escaped name":   {`{"\u0061":1,"b":2}`, []Member{Text("a", "x")}, `{"\u0061":"x","b":2}`},
		"nested name":    {`{"o":{"a":1},"l":[{"a":2}]}`, []Member{Text("a", "x")}, `{"o":{"a":1},"l":[{"a":2}],"a":"x"}`},
		"name as value":  {`{"b":"a"}`, []Member{Text("a", "x")}, `{"b":"a","a":"x"}`},
		"foreign script": {`{"nota":"Peña \u00e9 🌮","<":"&"}`, []Member{Text("a", `<"é&`)}, `{"nota":"Peña \u00e9 🌮","<":"&","a":"<\"é&"}`},
		"outer space":    {" \t{\"a\":1}\r\n", []Member{Text("a", "x")}, `{"a":"x"}`},
		"not a string":   {`{"a":1}`, []Member{{"replayed", []byte("true")}}, `{"a":1,"replayed":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			raw := []byte(c.raw)
			o, err := ParseObject(raw)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(o.With(c.set...)); got != c.want {
				t.Errorf("With = %s\nwant   %s", got, c.want)
			}
			if string(raw) != c.raw {
				t.Errorf("the original was changed: %s", raw)
			}
		})
	}
}

func TestMembers(t *testing.T) {
	o := parse(t, `{"s":"a\nb","n":-12.50e3,"t":true,"f":false,"z":null,"o":{"s":1},"l":["x",1,"y"],
		"dup":1,"dup":"last","\u0065sc":"é","empty":"","zero":0,"minus":-0.0,"tiny":1e-400,"huge":1e400}`)
	for key, want := range map[string]string{
		"s": `"a\nb"`, "n": "-12.50e3", "dup": `"last"`, "esc": `"é"`, "o": `{"s":1}`, "none": "",
	} {
		if got := string(o.Raw(key)); got != want {
			t.Errorf("Raw(%s) = %s, want %s", key, got, want)
		}
	}
	for key, want := range map[string]string{"s": "a\nb", "n": "", "z": "", "o": "", "none": "", "dup": "last", "empty": ""} {
		if got := o.String(key); got != want {
			t.Errorf("String(%s) = %q, want %q", key, got, want)
		}
	}
	for key, want := range map[string]string{"s": "a\nb", "n": "-12.50e3", "zero": "0", "z": "", "t": "", "l": ""} {
		if got := o.Ident(key); got != want {
			t.Errorf("Ident(%s) = %q, want %q", key, got, want)
		}
	}
	for key, want := range map[string]bool{
		"s": true, "n": true, "t": true, "o": true, "l": true, "dup": true, "huge": true,
		"f": false, "z": false, "empty": false, "zero": false, "minus": false, "tiny": false, "none": false,
	} {
		if got := o.Truthy(key); got != want {
			t.Errorf("Truthy(%s) = %t, want %t", key, got, want)
		}
	}
	for key, want := range map[string]string{"l": "x,y", "z": "", "none": ""} {
		list, ok := o.Strings(key)
		if !ok || strings.Join(list, ",") != want {
			t.Errorf("Strings(%s) = %q, %t", key, list, ok)
		}
	}
	for _, key := range []string{"s", "n", "o", "t"} {
		if _, ok := o.Strings(key); ok {
			t.Errorf("Strings(%s) took it for an array", key)
		}
	}
}

func TestPositive(t *testing.T) {
	for raw, want := range map[string]bool{
		`1`: true, `0.01`: true, `1e3`: true, `9007199254740993`: true, `1e400`: true, `"120.50"`: true, `"1e2"`: true,
		`0`: false, `-1`: false, `-0.0`: false, `1e-400`: false, `"0"`: false, `"0.00"`: false, `"-5"`: false, `""`: false,
		`"abc"`: false, `"0x10"`: false, `"Infinity"`: false, `"NaN"`: false, `"1_000"`: false, `"12,50"`: false, `"12.50 MXN"`: false,
		`true`: false, `null`: false, `{}`: false, `[1]`: false,
	} {
		if got := parse(t, `{"amount":`+raw+`}`).Positive("amount"); got != want {
			t.Errorf("Positive(%s) = %t, want %t", raw, got, want)
		}
	}
}

func TestDigest(t *testing.T) {
	same := func(a, b string) bool {
		return parse(t, a).Digest("p", "q") == parse(t, b).Digest("p", "q")
	}
	if !same(`{"p":"1","q":2,"x":3}`, `{"q":2, "x":4,"p":"1"}`) {
		t.Error("order and other members change the digest")
	}
	for a, b := range map[string]string{
		`{"p":1}`: `{"p":2}`, `{"p":1,"q":2}`: `{"p":2,"q":1}`, `{"p":"1"}`: `{"p":1}`, `{"p":null}`: `{}`, `{"p":12,"q":3}`: `{"p":1,"q":23}`,
	} {
		if same(a, b) {
			t.Errorf("%s and %s have one digest", a, b)
		}
	}
}

func TestDepth(t *testing.T) {
	nest := func(open, end string, n int) string {
		return `{"a":` + strings.Repeat(open, n) + "1" + strings.Repeat(end, n) + `}`
	}
	for _, kind := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
		if _, err := ParseObject([]byte(nest(kind[0], kind[1], MaxDepth-1))); err != nil {
			t.Errorf("%d levels of %s: %v", MaxDepth, kind[0], err)
		}
		for _, n := range []int{MaxDepth, 100_000} {
			if _, err := ParseObject([]byte(nest(kind[0], kind[1], n))); !errors.Is(err, ErrTooDeep) {
				t.Errorf("%d levels of %s: %v, want ErrTooDeep", n+1, kind[0], err)
			}
		}
	}
}

// texts is what the table test and the fuzz test begin with.
func texts() []string {
	return []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":1,"b":[1,2,{"c":null}]}`, `{"a":"\u00e9\ud83c\udf2e\"\\\/\b\f\n\r\t"}`, `{"":""}`,
		`{"a":-0}`, `{"a":0.5e-10}`, `{"a":1E+2}`, `{"a":1,"a":2}`, `{"a":"\ud800"}`, `{"a":[]}`, `{"a":[[],{}]}`, "{\"a\":\"\x7f\"}",
		``, ` `, `null`, `1`, `"x"`, `[]`, `[{}]`, `{`, `}`, `{]`, `{}}`, `{}{}`, `{} x`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{,"a":1}`,
		`{a:1}`, `{'a':1}`, `{1:1}`, `{"a" 1}`, `{"a"::1}`, `{"a":1 "b":2}`, `{"a":1;"b":2}`, `{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":[1}`,
		`{"a":01}`, `{"a":-}`, `{"a":-01}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1.e3}`, `{"a":1e}`, `{"a":1e+}`, `{"a":0x1}`, `{"a":1_0}`, `{"a":NaN}`, `{"a":Infinity}`,
		`{"a":tru}`, `{"a":truex}`, `{"a":True}`, `{"a":nul}`, `{"a":nullnull}`, `{"a":undefined}`,
		`{"a":"}`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, `{"a":"\`, `{"a":"\u`, `{"a":"\u123`, `{"a`, `{"a\`, "{\"a\":\"\n\"}", "{\"a\":\"\x00\"}", "{\"a\x01\":1}",
		"{\"a\":\"\xff\"}", "{\"\xc3\":1}", "\xef\xbb\xbf{}", "\v{}", "\f{}", "{}\v", "\u00a0{}", "{}\u0085", "{\v}", "{\"a\":\u00a01}", `{/**/}`, `{"a":1}//x`,
	}
}

// checkParse holds ParseObject against encoding/json, which is right about
// everything but UTF-8 and depth.
func checkParse(t *testing.T, raw []byte) {
	t.Helper()
	before := bytes.Clone(raw)
	o, err := ParseObject(raw)
	first := bytes.TrimLeft(raw, " \t\r\n")
	good := json.Valid(raw) && utf8.Valid(raw) && first[0] == '{' && depth(raw) <= MaxDepth
	if (err == nil) != good {
		t.Fatalf("ParseObject(%q) = %v, want an error: %t", raw, err, !good)
	}
	if !bytes.Equal(raw, before) {
		t.Fatalf("the input was changed from %q to %q", before, raw)
	}
	if err != nil {
		return
	}
	var want map[string]json.RawMessage
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	for key, value := range want {
		if got := o.Raw(key); !bytes.Equal(got, value) {
			t.Fatalf("Raw(%q) of %q = %q, want %q", key, raw, got, value)
		}
	}
	if got := o.With(); !bytes.Equal(got, bytes.Trim(raw, " \t\r\n")) {
		t.Fatalf("With() of %q = %q", raw, got)
	}
	var set map[string]json.RawMessage
	if err := json.Unmarshal(o.With(Text("a", "x"), Text("new", "y")), &set); err != nil {
		t.Fatalf("With on %q: %v", raw, err)
	}
	want["a"], want["new"] = []byte(`"x"`), []byte(`"y"`)
	if len(set) != len(want) {
		t.Fatalf("With on %q has %d members, want %d", raw, len(set), len(want))
	}
	for key, value := range want {
		if !bytes.Equal(set[key], value) {
			t.Fatalf("With on %q changed %q to %q", raw, key, set[key])
		}
	}
}

// depth returns how deep valid JSON nests, as encoding/json sees it.
func depth(raw []byte) int {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // 1e400 is JSON, though no float64
	now, deepest := 0, 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) || err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			now++
			deepest = max(deepest, now)
		case json.Delim('}'), json.Delim(']'):
			now--
		}
	}
}

func TestParseObjectAgreesWithTheLibrary(t *testing.T) {
	for _, text := range texts() {
		checkParse(t, []byte(text))
	}
	for c := range 256 { // each byte where it may mean something
		checkParse(t, []byte{'{', '"', byte(c), '"', ':', '1', '}'})
		checkParse(t, []byte{'{', byte(c), '"', 'a', '"', ':', '1', '}'})
		checkParse(t, []byte{'{', '"', 'a', '"', ':', '1', byte(c), '}'})
		checkParse(t, []byte{byte(c), '{', '}', byte(c)})
	}
}

func FuzzParseObject(f *testing.F) {
	for _, text := range texts() {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"a":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`))
	f.Fuzz(func(t *testing.T, raw []byte) { checkParse(t, raw) })
}
