package messages

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// TestEventsComeBackFromJSON fills every field of every event, so that none is lost on the way.
func TestEventsComeBackFromJSON(t *testing.T) {
	for name, typ := range eventTypes {
		full := reflect.New(typ.typ).Elem()
		fill(t, full)
		line, err := EncodeEvent(full.Interface().(Event))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Errorf("%s is not one line: %q", name, line)
		}
		back, err := DecodeEvent(line)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(back, full.Interface()) {
			t.Errorf("%s: sent %+v\ngot  %+v", name, full.Interface(), back)
		}
	}
}

func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 11, 25, 1, 2, 3, 4, time.UTC)))
		return
	case reflect.TypeFor[fault.Kind](), reflect.TypeFor[Step](), reflect.TypeFor[Outcome]():
		v.SetUint(2)
		return
	case reflect.TypeFor[*fault.Fault]():
		return // not in JSON
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.String:
		v.SetString("a\u009bb\x7f\n")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(7)
	default:
		t.Fatalf("the test can't fill a %s", v.Type())
	}
}

func TestEventsThatAreNone(t *testing.T) {
	for _, line := range []string{`{"type":"from_the_future","at":"2026-01-01T00:00:00Z"}`, `{}`} {
		if _, err := DecodeEvent([]byte(line)); !errors.Is(err, ErrUnknownEvent) {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range []string{``, `[]`, `{"type":"step_done","step":"dance"}`} {
		if e, err := DecodeEvent([]byte(line)); err == nil || errors.Is(err, ErrUnknownEvent) {
			t.Errorf("%s: %v, %v", line, e, err)
		}
	}
	if _, err := EncodeEvent(nil); !errors.Is(err, ErrUnknownEvent) {
		t.Errorf("%v", err)
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(`{"type":"step_done","at":"2026-11-25T00:00:00Z","host":"h","epoch":1,"step":"copy","took_ns":1}`))
	f.Add([]byte(`{"type":"output_received","data":"YQ==","text":"a"}`))
	f.Add([]byte(`{"type":"run_finished","results":[{"host":"h","outcome":"ok","exit":{"code":0}}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := DecodeEvent(line)
		if err != nil {
			return
		}
		once, err := EncodeEvent(e)
		if err != nil {
			return // a time that JSON can't have
		}
		if e, err = DecodeEvent(once); err != nil {
			return // an enumeration that was left out has no word
		}
		if twice, err := EncodeEvent(e); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%q became %q, %v", once, twice, err)
		}
	})
}
