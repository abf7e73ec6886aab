package cli

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/discovery"
)

// verdict is what became of a check.
type verdict string

const (
	isOK   verdict = "ok"
	isWarn verdict = "warn" // it works, and will not for ever
	isFail verdict = "fail"
	isSkip verdict = "skip" // it cannot be told, for a reason that another check names
)

// finding is what a check says. Remedy is empty if there is nothing to do.
type finding struct {
	Check    string  `json:"check"`
	Verdict  verdict `json:"verdict"`
	Cause    string  `json:"cause,omitempty"` // the failure's name, for programs
	Evidence string  `json:"evidence"`
	Remedy   string  `json:"remedy,omitempty"`
}

// patient is what the checks look at. Whatever costs time is done once.
type patient struct {
	cfg    config.Config
	cfgErr error
	box    func(context.Context) (api.Status, error)
	cloud  func(context.Context) (daemon.CloudCheck, error)
	clock  func() (synchronised, impossible bool)

	machine func(context.Context) daemon.Machine
	find    func(ctx context.Context, box string) discovery.Report
	askLAN  func(ctx context.Context, listen string) (asked string, err error)
}

// check is one row of what the doctor looks at; all run side by side.
type check struct {
	name string
	run  func(ctx context.Context, p *patient) []finding
}

// checks lists them in the order in which a technician would ask.
func checks() []check {
	return slices.Concat([]check{
		{"config", checkConfig},
		{"version", checkVersion},
		{"box", checkBox},
	}, machineChecks(), []check{
		{"clock", checkClock},
		{"lan", checkLAN},
		{"mDNS", checkDiscovery},
		{"terminals' door", checkTerminals},
		{"terminals' TLS", checkTLS},
		{"router", checkRouter},
		{"captive portal", checkPortal},
		{"internet", checkInternet},
		{"name server", checkNames},
		{"broker", checkBrokers},
		{"uplink", checkUplink},
		{"duplicate box", checkTwin},
		{"credentials on disk", checkRenewal},
		{"back-end", checkBackend},
		{"backlog", checkCursor},
		{"parked events", checkParked},
		{"session", checkSession},
	})
}

// examination is the whole answer.
type examination struct {
	Verdict verdict   `json:"verdict"` // the worst there is
	TookMs  int64     `json:"tookMs"`
	Checks  []finding `json:"checks"`
}

// doctorTimeout leaves the rest of ten seconds to those who end with it.
const doctorTimeout = 9 * time.Second

func newDoctor(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look at everything a technician would, and say what to do", Args: cobra.NoArgs,
		Long: `Checks the configuration, the machine, the running box and the way to the
cloud, within ten seconds, and says for each what was found and what to do. What
follows from a fault that was named is not named again. It works without a
running box and without root, which can tell less. It changes nothing (a small
file is written beside the journal and removed, and a line of telemetry may be
sent) and does not disturb the running box. Exit code 0: all is well; 4:
something needs a look; 1: it could not look.`,
		Example: `  avoqado-edge doctor
  avoqado-edge doctor --json | jq '.checks[] | select(.verdict == "fail")'`,
	}
	path := configFlag(cmd)
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(*path, nil)
		if err == nil {
			*socket = socketOf(cmd, *socket, *path, cfg)
		}
		e := examine(cmd.Context(), newPatient(cfg, err, *socket))
		if asJSON {
			err = printJSON(s.Out, e)
		} else {
			err = printExamination(s.Out, e)
		}
		if err == nil && (e.Verdict == isWarn || e.Verdict == isFail) {
			err = &silentError{ExitDegraded}
		}
		return err
	}
	return cmd
}

func newPatient(cfg config.Config, err error, socket string) *patient {
	p := &patient{
		cfg: cfg, cfgErr: err,
		box: once(func(ctx context.Context) (api.Status, error) { return api.NewClient(socket).Status(ctx) }),
		cloud: once(func(ctx context.Context) (daemon.CloudCheck, error) {
			return daemon.CheckCloud(ctx, cfg)
		}),
		clock: func() (bool, bool) { return daemon.ClockCheck(time.Now()) },
	}
	look := once(func(ctx context.Context) (daemon.Machine, error) {
		_, err := p.box(ctx)
		return daemon.LookAtMachine(ctx, cfg, !errors.Is(err, api.ErrNotRunning), "/"), nil
	})
	p.machine = func(ctx context.Context) daemon.Machine {
		m, _ := look(ctx) // what cannot be told, it says itself
		return m
	}
	p.find = func(ctx context.Context, box string) discovery.Report {
		return discovery.Find(ctx, discovery.Search{Venue: cfg.Box.Venue, Box: box})
	}
	p.askLAN = func(ctx context.Context, listen string) (string, error) { return daemon.AskOverLAN(ctx, listen) }
	return p
}

// once lets all who ask share the first answer.
func once[T any](ask func(context.Context) (T, error)) func(context.Context) (T, error) {
	var first sync.Once
	var v T
	var err error
	return func(ctx context.Context) (T, error) {
		first.Do(func() { v, err = ask(ctx) })
		return v, err
	}
}

func examine(ctx context.Context, p *patient) examination {
	began := time.Now()
	last, leave := context.WithTimeout(ctx, doctorTimeout+300*time.Millisecond) // for those who end with ctx
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	rows := checks()
	answers := make([]chan []finding, len(rows))
	var looking sync.WaitGroup // not waited for: see await
	for i, row := range rows {
		answers[i] = make(chan []finding, 1)
		looking.Go(func() { answers[i] <- row.run(ctx, p) })
	}
	found := make([][]finding, len(rows))
	for i, row := range rows {
		found[i] = await(last, answers[i])
		for j := range found[i] {
			found[i][j].Check = strings.TrimSpace(row.name + " " + found[i][j].Check)
		}
	}
	e := examination{Verdict: isOK, TookMs: time.Since(began).Milliseconds(), Checks: []finding{}}
	named := map[string]string{} // cause → the check that named it
	for _, some := range found {
		for _, f := range some {
			// What follows from a fault that is named already is not another one.
			if first := named[f.Cause]; f.Verdict == isFail && first != "" && first != f.Check {
				f.Verdict, f.Remedy = isSkip, ""
				f.Evidence = "see " + first + ": " + f.Evidence
			} else if f.Verdict == isFail && f.Cause != "" {
				named[f.Cause] = f.Check
			}
			e.Checks = append(e.Checks, f)
			if f.Verdict == isFail || f.Verdict == isWarn && e.Verdict == isOK {
				e.Verdict = f.Verdict
			}
		}
	}
	return e
}

// await returns what a check says. Whoever looks at a dead disk may hang in the
// kernel, out of reach of a context: that one is left behind, and named. Of
// several that hang the first is.
func await(ctx context.Context, answer <-chan []finding) []finding {
	select {
	case f := <-answer:
		return f
	case <-ctx.Done():
		if len(answer) > 0 { // both were true: it is not the one that hangs
			return <-answer
		}
		f := one(isFail, "Look at `dmesg`: a disk or a network file system does not answer. Save the journal, and restart the machine.", "no answer within %s", doctorTimeout)
		f[0].Cause = "hangs"
		return f
	}
}

func printExamination(w io.Writer, e examination) error {
	p := &printer{w: w}
	for _, f := range e.Checks {
		word := string(f.Verdict)
		if f.Verdict == isFail || f.Verdict == isWarn {
			word = strings.ToUpper(word)
		}
		p.line("%-5s %s: %s", word, f.Check, strings.ReplaceAll(f.Evidence, "\n", "; "))
		if f.Remedy != "" {
			p.line("      -> %s", f.Remedy)
		}
	}
	return p.err
}
