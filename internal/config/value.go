package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// form is how a value is written. The environment and flags know only text,
// so only a file can get it wrong.
type form string

const (
	untyped form = ""
	text    form = "a text"
	integer form = "a whole number"
	float   form = "a number"
	boolean form = "true or false"
	list    form = "a list"
	section form = "a section"
	nothing form = "empty"
)

// value is one setting of a Config: how to read it and how to show it.
type value struct {
	want form   // what to write in a file
	also []form // what is understood besides
	set  func(text string) error
	show func() string
	raw  func() string // of a secret, to compare; nil: show tells all
}

// give sets the value from a text written in the given form.
func (v value) give(written form, s string) error {
	if written != untyped && written != v.want && !slices.Contains(v.also, written) {
		switch {
		case written == nothing:
			return errors.New("has no value; give one or remove the line")
		case v.want == text && written == boolean:
			return fmt.Errorf("is %s, a text is wanted; put it in quotes", s)
		}
		return fmt.Errorf("is %s, %s is wanted", written, v.want)
	}
	return v.set(s)
}

// str is a text. Numbers are taken as they are written, so that a password of
// digits keeps its leading zeros.
func str(p *string, checks ...func(string) error) value {
	return value{
		want: text, also: []form{integer, float},
		set: func(s string) error {
			for _, check := range checks {
				if err := check(s); s != "" && err != nil {
					return err
				}
			}
			*p = s
			return nil
		},
		show: func() string { return *p },
	}
}

// filled is a text that has a default, so that there is no use in emptying it.
func filled(p *string, checks ...func(string) error) value {
	v := str(p, checks...)
	set := v.set
	v.set = func(s string) error {
		if s == "" {
			return errors.New("is empty; give a value or remove it")
		}
		return set(s)
	}
	return v
}

// secret is a text no message may repeat.
func secret(p *Secret, checks ...func(string) error) value {
	v := str((*string)(p), checks...)
	v.raw = v.show
	v.show = func() string { return p.String() }
	return v
}

func choice[T ~string](p *T, options ...T) value {
	return value{
		want: text,
		set: func(s string) error {
			if !slices.Contains(options, T(s)) {
				return fmt.Errorf("%q is none of %s", s, join(options))
			}
			*p = T(s)
			return nil
		},
		show: func() string { return string(*p) },
	}
}

func join[T ~string](options []T) string {
	words := make([]string, len(options))
	for i, o := range options {
		words[i] = string(o)
	}
	return strings.Join(words, ", ")
}

func logLevel(p *slog.Level) value {
	names := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo,
		"warn": slog.LevelWarn, "error": slog.LevelError,
	}
	return value{
		want: text,
		set: func(s string) error {
			l, ok := names[s]
			if !ok {
				return fmt.Errorf("%q is none of debug, info, warn, error", s)
			}
			*p = l
			return nil
		},
		show: func() string { return strings.ToLower(p.String()) },
	}
}

func flag(p *bool) value {
	return value{
		want: boolean,
		set: func(s string) error {
			switch s {
			case "true":
				*p = true
			case "false":
				*p = false
			default:
				return fmt.Errorf("%q is neither true nor false", s)
			}
			return nil
		},
		show: func() string { return strconv.FormatBool(*p) },
	}
}

func number(p *int, low, high int) value {
	return value{
		want: integer,
		set: func(s string) error {
			n, err := strconv.Atoi(s)
			switch {
			case err != nil:
				return fmt.Errorf("%q is not a whole number", s)
			case n < low:
				return fmt.Errorf("%d is below %d", n, low)
			case n > high:
				return fmt.Errorf("%d is above %d", n, high)
			}
			*p = n
			return nil
		},
		show: func() string { return strconv.Itoa(*p) },
	}
}

func duration(p *time.Duration, low, high time.Duration) value {
	return value{
		want: text, also: []form{integer, float},
		set: func(s string) error {
			if _, err := strconv.ParseFloat(s, 64); err == nil {
				return fmt.Errorf("%s has no unit; write %ss, %sm or %sh", s, s, s, s)
			}
			d, err := time.ParseDuration(s)
			switch {
			case err != nil:
				return fmt.Errorf("%q is not a duration such as 30s, 15m or 168h", s)
			case d < low:
				return fmt.Errorf("%s is below %s", s, showDuration(low))
			case d > high:
				return fmt.Errorf("%s is above %s", s, showDuration(high))
			}
			*p = d
			return nil
		},
		show: func() string { return showDuration(*p) },
	}
}

// showDuration writes a duration as a person would: 90s, 15m, 168h.
func showDuration(d time.Duration) string {
	switch {
	case d%time.Second != 0:
		return d.String()
	case d%time.Hour == 0 && d != 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0 && d > 10*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// The units a size may be written in, largest first.
func units() []unit {
	return []unit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}
}

type unit struct {
	name  string
	bytes int64
}

// size is a number of bytes, plain or with a unit: 33554432, 32MiB.
func size(p *int64, low, high int64) value {
	return value{
		want: text, also: []form{integer},
		set: func(s string) error {
			digits, factor := s, int64(1)
			for _, u := range units() {
				if before, ok := strings.CutSuffix(s, u.name); ok {
					digits, factor = strings.TrimSpace(before), u.bytes
					break
				}
			}
			n, err := strconv.ParseInt(digits, 10, 64)
			switch {
			case err != nil:
				return fmt.Errorf("%q is not a size such as 32MiB or 1GiB", s)
			case n > math.MaxInt64/factor || n*factor > high:
				return fmt.Errorf("%s is above %s", s, showSize(high))
			case n < 0 || n*factor < low:
				return fmt.Errorf("%s is below %s", s, showSize(low))
			}
			*p = n * factor
			return nil
		},
		show: func() string { return showSize(*p) },
	}
}

func showSize(n int64) string {
	for _, u := range units() {
		if n > 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// endurance is what a disk may have written to it in its life, in the decimal
// units of data sheets: 30TB. Zero means that nobody knows.
func endurance(p *int64) value {
	const tb = int64(1e12)
	return value{
		want: text, also: []form{integer},
		set: func(s string) error {
			if s == "0" {
				*p = 0
				return nil
			}
			digits, ok := strings.CutSuffix(s, "TB")
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if !ok || err != nil || n < 1 || n > 100_000 {
				return fmt.Errorf("%q is not 1TB to 100000TB, nor 0 for unknown", s)
			}
			*p = n * tb
			return nil
		},
		show: func() string {
			if *p == 0 {
				return "0"
			}
			return strconv.FormatInt(*p/tb, 10) + "TB"
		},
	}
}

// words is a list, written in the environment with commas.
func words(p *[]string, check func(string) error) value {
	return value{
		want: list,
		set: func(s string) error {
			var items []string
			for item := range strings.SplitSeq(s, ",") {
				item = strings.TrimSpace(item)
				if item == "" {
					continue
				}
				if err := check(item); err != nil {
					return err
				}
				if slices.Contains(items, item) {
					return fmt.Errorf("%q is there twice", item)
				}
				items = append(items, item)
			}
			*p = items
			return nil
		},
		show: func() string { return strings.Join(*p, ", ") },
	}
}
