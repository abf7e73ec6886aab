package outages

import (
	"cmp"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// tally counts the events that an outage holds. It is made anew from the
// journal after a restart, never kept.
type tally struct {
	read      event.Seq // counted up to here
	held      Held
	money     map[[2]string]*sum
	terminals map[string]*Terminal
}

func newTally(after event.Seq) *tally {
	return &tally{
		read: after, held: Held{Classes: map[string]uint64{}},
		money: map[[2]string]*sum{}, terminals: map[string]*Terminal{},
	}
}

func (t *tally) add(e *event.Event) {
	t.read = e.Seq
	if e.Origin == event.Cloud {
		return // it came from there
	}
	t.held.Events++
	t.held.Bytes += uint64(len(e.Payload))
	t.held.Classes[e.Class.String()]++
	who := t.terminals[e.Terminal]
	if who == nil {
		id := e.Terminal
		if len(t.terminals) >= maxTerminals {
			id = ""
		}
		if who = t.terminals[id]; who == nil {
			who = &Terminal{ID: id, First: e.Time}
			t.terminals[id] = who
		}
	}
	who.Events++
	if e.Class == event.Money {
		who.Money++
		t.pay(e)
	}
}

func (t *tally) pay(e *event.Event) {
	amount, currency := "", ""
	if o, err := event.ParseObject(e.Payload); err == nil {
		amount, currency = o.Ident("amount"), o.String("currency")
		if cents := o.Ident("amountCents"); amount == "" && cents != "" {
			amount = cents + "e-2"
			if strings.ContainsAny(cents, "eE") {
				amount = "" // no terminal writes so
			}
		} else if amount == "" && o.Raw("currency") == nil {
			return // a cancellation, or a question: no money is named
		}
	}
	if len(currency) > 12 {
		currency = currency[:12]
	}
	row := [2]string{string(e.Kind), currency}
	s := t.money[row]
	if s == nil {
		if len(t.money) >= maxMoney {
			row[1] = "…"
		}
		if s = t.money[row]; s == nil {
			s = &sum{}
			t.money[row] = s
		}
	}
	s.add(amount)
}

// into writes what was counted into the outage.
func (t *tally) into(o *Outage) {
	o.Held = Held{Events: t.held.Events, Bytes: t.held.Bytes, Classes: maps.Clone(t.held.Classes), Money: []Money{}}
	for row, s := range t.money {
		o.Held.Money = append(o.Held.Money, Money{Kind: row[0], Currency: row[1], Events: s.events, Amount: s.String(), Unreadable: s.unreadable})
	}
	slices.SortFunc(o.Held.Money, func(a, b Money) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Currency, b.Currency))
	})
	o.Terminals = make([]Terminal, 0, len(t.terminals))
	for _, who := range t.terminals {
		o.Terminals = append(o.Terminals, *who)
	}
	slices.SortFunc(o.Terminals, func(a, b Terminal) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.ID, b.ID))
	})
}

// sum adds decimal numbers exactly.
type sum struct {
	events, unreadable uint64
	total              big.Rat
	places             int // behind the point, of the number that has most
}

// maxDigits keeps a number such as 1e999999999 from taking all memory.
const maxDigits = 30

func (s *sum) add(text string) {
	s.events++
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	shift := 0
	if exponent != "" {
		var err error
		if shift, err = strconv.Atoi(exponent); err != nil {
			s.unreadable++
			return
		}
	}
	_, fraction, _ := strings.Cut(mantissa, ".")
	n, ok := new(big.Rat), false
	if mantissa != "" && len(mantissa) <= maxDigits && shift >= -maxDigits && shift <= maxDigits &&
		strings.Trim(mantissa, "-+.0123456789") == "" {
		n, ok = n.SetString(text)
	}
	if !ok {
		s.unreadable++
		return
	}
	s.total.Add(&s.total, n)
	s.places = max(s.places, len(fraction)-shift)
}

func (s *sum) String() string { return s.total.FloatString(s.places) }

// note counts an event that the cloud has now.
func (l *Late) note(e *event.Event, now time.Time) {
	waited := now.Sub(e.Time)
	if e.Origin == event.Cloud || waited < LateAfter {
		return
	}
	if l.Classes == nil {
		l.Classes = map[string]uint64{}
	}
	l.Events++
	l.Classes[e.Class.String()]++
	l.LongestMs = max(l.LongestMs, waited.Milliseconds())
}
