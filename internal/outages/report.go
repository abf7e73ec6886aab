package outages

import (
	_ "embed"
	"fmt"
	"html"
	"io"
	"strings"
	"time"
)

//go:embed report.css
var style string

// Language is that of a report.
type Language string

// The languages.
const (
	Spanish Language = "es"
	English Language = "en"
)

// ParseLanguage returns the language of a tag such as es-MX, Spanish for one
// that is not known.
func ParseLanguage(tag string) Language {
	if strings.HasPrefix(strings.ToLower(tag), string(English)) {
		return English
	}
	return Spanish
}

// Report is a page about one outage.
type Report struct {
	Outage Outage
	Venue  string
	Box    string
	Now    time.Time      // when it is made
	Zone   *time.Location // in which times are told
	In     Language
}

// row is a line of the report: what, and how much.
type row struct{ Name, Value string }

// section is a part of it.
type section struct {
	Title string
	Rows  []row
	Table [][]string // the first line is its head
}

// sections is the whole report, for whatever it is printed on.
func (r *Report) sections() []section {
	o, w := &r.Outage, r.words()
	end, synced := w("it lasts"), w("not yet")
	if !o.End.IsZero() {
		end = r.at(o.End)
	}
	if !o.Synced.IsZero() {
		synced = r.at(o.Synced)
	}
	what := section{Title: w("What happened"), Rows: []row{
		{w("Cause"), w("cause "+o.Cause) + " (" + o.Cause + ")"},
		{w("Where"), w("place " + o.Place)},
		{w("Began"), r.at(o.Start)},
		{w("Ended"), end},
		{w("Lasted"), lasted(o.Lasted(r.Now))},
		{w("What the box saw"), o.Evidence},
		{w("What to do"), w.or("do "+o.Cause, o.Remedy)},
	}}
	if o.Broker != "" {
		what.Rows = append(what.Rows, row{w("Broker"), o.Broker})
	}
	if o.ClockUnsure {
		what.Rows = append(what.Rows, row{w("Note"), w("clock unsure")})
	}
	held := section{Title: w("What was held"), Rows: []row{
		{w("Events"), fmt.Sprint(o.Held.Events)},
		{w("Positions"), fmt.Sprintf("%d – %d", o.After+1, max(o.Through, o.After))},
	}}
	for _, class := range []string{"money", "orders", "alerts", "service"} {
		if n := o.Held.Classes[class]; n > 0 {
			held.Rows = append(held.Rows, row{"· " + w("class "+class), fmt.Sprint(n)})
		}
	}
	late := section{Title: w("What reached the cloud late"), Rows: []row{
		{w("Events"), fmt.Sprint(o.Late.Events)},
		{w("Longest wait"), lasted(time.Duration(o.Late.LongestMs) * time.Millisecond)},
		{w("All there"), synced},
		{w("Repeats suppressed: terminals"), fmt.Sprint(o.Repeats.Terminals)},
		{w("Repeats suppressed: broadcasts"), fmt.Sprint(o.Repeats.Broadcasts)},
		{w("Sent to the cloud again"), fmt.Sprint(o.Repeats.Resent)},
	}}
	all := []section{what, held}
	if len(o.Held.Money) > 0 {
		s := section{Title: w("Money in what was held"), Table: [][]string{{w("Kind"), w("Events"), w("Sum"), w("Currency")}}}
		for _, m := range o.Held.Money {
			amount := m.Amount
			if m.Unreadable > 0 {
				amount += fmt.Sprintf(" (+ %d ?)", m.Unreadable)
			}
			s.Table = append(s.Table, []string{w("kind " + m.Kind), fmt.Sprint(m.Events), amount, m.Currency})
		}
		all = append(all, s)
	}
	all = append(all, late)
	if len(o.Terminals) > 0 {
		all = append(all, r.terminals())
	}
	if len(o.Causes) > 1 {
		all = append(all, r.causes())
	}
	return all
}

// terminals lists those that suffered most, and the others in one line.
func (r *Report) terminals() section {
	w := r.words()
	s := section{Title: w("Terminals"), Table: [][]string{{w("Terminal"), w("Events"), w("Of them money"), w("Waits since")}}}
	list := r.Outage.Terminals
	line := func(id string, t Terminal) {
		s.Table = append(s.Table, []string{id, fmt.Sprint(t.Events), fmt.Sprint(t.Money), r.clock(t.First)})
	}
	shown := list[:min(len(list), maxLines)]
	for _, t := range shown {
		if t.ID == "" {
			t.ID = w("others")
		}
		line(t.ID, t)
	}
	if rest := list[len(shown):]; len(rest) > 0 {
		sum := Terminal{First: rest[0].First}
		for _, t := range rest {
			sum.Events, sum.Money = sum.Events+t.Events, sum.Money+t.Money
			if t.First.Before(sum.First) {
				sum.First = t.First
			}
		}
		line(fmt.Sprintf("%d %s", len(rest), w("more")), sum)
	}
	return s
}

// causes lists what was found to be wrong, in its order.
func (r *Report) causes() section {
	w := r.words()
	s := section{Title: w("In order"), Table: [][]string{{w("From"), w("Cause"), w("What the box saw")}}}
	list := r.Outage.Causes
	for _, c := range list[:min(len(list), maxStretches)] {
		s.Table = append(s.Table, []string{r.clock(c.From), w("cause " + c.Cause), c.Evidence})
	}
	if n := len(list) - maxStretches; n > 0 {
		s.Table = append(s.Table, []string{"…", fmt.Sprintf("%d %s", n, w("more")), ""})
	}
	return s
}

// What fits a sheet of paper; JSON has the rest.
const (
	maxLines     = 20 // terminals
	maxStretches = 8  // of causes
)

func (r *Report) in(t time.Time) time.Time {
	if r.Zone == nil {
		return t.In(time.Local)
	}
	return t.In(r.Zone)
}

func (r *Report) at(t time.Time) string { return r.in(t).Format("2006-01-02 15:04:05 MST") }

// clock is the time of a day, with the day where it is not the one on which the
// outage began.
func (r *Report) clock(t time.Time) string {
	at := r.in(t)
	if at.Format(time.DateOnly) == r.in(r.Outage.Start).Format(time.DateOnly) {
		return at.Format(time.TimeOnly)
	}
	return at.Format(time.DateTime)
}

// lasted writes a duration as both languages do.
func lasted(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

func (r *Report) title() string {
	return fmt.Sprintf(r.words()("Outage %d"), r.Outage.ID)
}

// Text writes the report for a terminal.
func (r *Report) Text(to io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s · %s %s · %s\n", r.title(), r.words()("Venue"), r.Venue, r.Box)
	for _, s := range r.sections() {
		fmt.Fprintf(&b, "\n%s\n", s.Title)
		for _, row := range s.Rows {
			fmt.Fprintf(&b, "  %s: %s\n", row.Name, row.Value)
		}
		for _, cells := range s.Table {
			fmt.Fprintf(&b, "  %s\n", strings.Join(cells, " · "))
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// HTML writes the report as a page of its own, to be printed. It asks for
// nothing else.
func (r *Report) HTML(to io.Writer) error {
	var b strings.Builder
	name, venue := html.EscapeString(r.title()), html.EscapeString(r.words()("Venue")+" "+r.Venue)
	fmt.Fprintf(&b, `<!doctype html>
<html lang="%s">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s · %s</title>
<style>%s</style>
<main>
<h1>%s</h1>
<p>%s · %s · %s</p>
<div class=sheet>
`, r.In, name, venue, style, name, venue, html.EscapeString(r.Box), r.at(r.Now))
	cells := func(tag string, texts []string) {
		for _, text := range texts {
			fmt.Fprintf(&b, "<%s>%s", tag, html.EscapeString(text))
		}
		b.WriteByte('\n')
	}
	for _, s := range r.sections() {
		fmt.Fprintf(&b, "<section>\n<h2>%s</h2>\n", html.EscapeString(s.Title))
		if len(s.Rows) > 0 {
			b.WriteString("<table class=facts>\n")
			for _, row := range s.Rows {
				fmt.Fprintf(&b, "<tr><th scope=row>%s<td>%s\n", html.EscapeString(row.Name), html.EscapeString(row.Value))
			}
			b.WriteString("</table>\n")
		}
		if len(s.Table) > 0 {
			b.WriteString("<table>\n<thead><tr>")
			cells("th scope=col", s.Table[0])
			b.WriteString("<tbody>")
			for _, line := range s.Table[1:] {
				b.WriteString("<tr>")
				cells("td", line)
			}
			b.WriteString("</table>\n")
		}
		b.WriteString("</section>\n")
	}
	b.WriteString("</div>\n</main>\n")
	_, err := io.WriteString(to, b.String())
	return err
}
