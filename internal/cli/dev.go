package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/logbook"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

const (
	devListen  = "127.0.0.1:8080"
	devStart   = 20 * time.Second // how long everything may take to answer
	outageWait = 5 * time.Second  // of normal life before --outage cuts the uplink
	alertEvery = 15 * time.Second

	// devOrigins are where developers serve the dashboard from (contract §1.7).
	devOrigins = "http://localhost:5173,http://localhost:5177,http://localhost:3000,http://localhost:4173," +
		"http://localhost:5000,http://localhost:8080,http://localhost:8081"
)

// devOptions is what `dev` can be asked for.
type devOptions struct {
	listen, mqtt, venue, state string
	outage                     time.Duration
	rate                       float64
	noSimulation, asJSON       bool
	verbose                    bool
	anyPort                    bool // the listen address is only a wish
}

func newDev(s Streams) *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use: "dev", Short: "A whole venue on this machine: box, broker, back-end, terminals, dashboard", Args: cobra.NoArgs,
		Long: `Starts, in one process: the box as in production (real Socket.IO, real journal
on disk, fsync before every acknowledgement), an MQTT broker, a back-end that
confirms what it has committed and now and then pushes an alert, three simulated
terminals and a dashboard. Prints the address and a token per role to use with
your own client. Ctrl-C ends everything.`,
		Example: `  avoqado-edge dev
  avoqado-edge dev --outage 30s               # watch the backlog grow and drain
  avoqado-edge dev --listen 127.0.0.1:0 --no-simulation --json`,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.listen, "listen", devListen, "LAN address; port 0 takes a free one")
	flags.StringVar(&o.mqtt, "mqtt", "127.0.0.1:0", "address of the embedded broker")
	flags.StringVar(&o.venue, "venue", "venue-dev", "venue id")
	flags.StringVar(&o.state, "state", "", "keep state in this folder (default: a temporary one, removed at the end)")
	flags.DurationVar(&o.outage, "outage", 0, "cut the uplink for this long, five seconds after the start")
	flags.Float64Var(&o.rate, "rate", 4, "events per second of the simulated terminals")
	flags.BoolVar(&o.noSimulation, "no-simulation", false, "no simulated terminals, dashboard and alerts")
	flags.BoolVar(&o.asJSON, "json", false, "print JSON lines: first where everything is, then the figures")
	flags.BoolVar(&o.verbose, "verbose", false, "show the log of the parts")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, _ []string) error {
		if o.outage < 0 || o.rate <= 0 {
			return usagef("--outage must not be negative, --rate must be above zero")
		}
		o.anyPort = !flags.Changed("listen")
		return runDev(cmd.Context(), s, o)
	})
	return cmd
}

// ready is the first line of `dev --json`.
type ready struct {
	URL    string                `json:"url"`
	Venue  string                `json:"venue"`
	MQTT   string                `json:"mqtt"`
	Socket string                `json:"socket"`
	Tokens map[event.Role]string `json:"tokens"`
}

// runDev is the composition root of a whole venue, from top to bottom.
func runDev(ctx context.Context, s Streams, o devOptions) (err error) {
	log := slog.New(slog.DiscardHandler)
	if o.verbose {
		log = wordyLog(s.Err)
	}
	state, remove, err := stateFolder(o.state)
	if err != nil {
		return err
	}
	defer remove()

	broker, err := cloud.ListenBroker(o.mqtt, log.With("part", "broker"))
	if err != nil {
		return err
	}
	access := cloud.Access{Broker: broker.URL()}
	secret, err := devSecret()
	if err != nil {
		return err
	}
	cfg, err := devConfig(o, state, secret, broker.URL())
	if err != nil {
		return err
	}
	host := daemon.Host{Log: log, Level: new(slog.LevelVar), Book: logbook.New(), Collect: collect}
	box, err := daemon.New(cfg, host)
	if errors.Is(err, syscall.EADDRINUSE) && o.anyPort {
		_, _ = fmt.Fprintf(s.Err, "%s is taken, using a free port.\n", o.listen)
		cfg.LAN.Listen = "127.0.0.1:0"
		box, err = daemon.New(cfg, host)
	}
	if err != nil {
		return err
	}
	backend, err := cloud.OpenBackend(cloud.BackendConfig{
		Access: access, Path: filepath.Join(state, "backend.db"), Prefix: cloud.Prefix(o.venue),
	}, log.With("part", "backend"))
	if err != nil {
		return err
	}
	defer func() { _ = backend.Close() }()
	mint, err := minter([]byte(secret), o.venue)
	if err != nil {
		return err
	}
	where := ready{
		URL: "http://" + box.LANAddr().String(), Venue: o.venue, MQTT: broker.URL(), Socket: cfg.Socket,
		Tokens: map[event.Role]string{},
	}
	for _, role := range event.Roles() {
		if where.Tokens[role], err = mint(role, "dev-"+strings.ToLower(string(role)), ""); err != nil {
			return err
		}
	}

	// The broker outlives the box, so that the box can say goodbye to it.
	brokerCtx, stopBroker := context.WithCancel(context.WithoutCancel(ctx))
	var (
		brokering sync.WaitGroup
		brokerErr error
	)
	brokering.Go(func() { brokerErr = broker.Run(brokerCtx) })
	defer func() {
		stopBroker()
		brokering.Wait()
		err = errors.Join(err, brokerErr)
	}()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return backend.Run(ctx, nil) })
	g.Go(func() error { return box.Run(ctx) })
	g.Go(func() error {
		if err := awaitAnswers(ctx, where.URL, box, backend); err != nil || ctx.Err() != nil {
			return err
		}
		code, err := api.NewClient(where.Socket).LoginCode(ctx)
		if err != nil {
			return fmt.Errorf("make a code for the box's page: %w", err)
		}
		if err := announce(s.Out, where, code.Code, o); err != nil {
			return err
		}
		return devLife(ctx, s, o, box, access, mint, where)
	})
	return g.Wait()
}

// devLife is what happens once everything answers, until ctx ends.
func devLife(ctx context.Context, s Streams, o devOptions, box *daemon.Daemon, access cloud.Access, mint tokenMinter, where ready) error {
	g, ctx := errgroup.WithContext(ctx)
	if !o.noSimulation {
		g.Go(func() error {
			_, err := simulate.Run(ctx, simulate.Plan{
				URL: where.URL, Venue: o.venue, Terminals: 3, Dashboards: 1, Rate: o.rate,
				Token: mint, Seed: 1, Log: slog.New(slog.DiscardHandler),
			}, nil)
			return err
		})
		g.Go(func() error { return pushAlerts(ctx, access, cloud.Prefix(o.venue)) })
	}
	g.Go(func() error { return showFigures(ctx, s, o, box) })
	return g.Wait()
}

// stateFolder returns the folder to keep state in and what to call at the end.
func stateFolder(path string) (dir string, remove func(), err error) {
	if path != "" {
		if dir, err = filepath.Abs(path); err != nil {
			return "", nil, err
		}
		return dir, func() {}, os.MkdirAll(dir, 0o700)
	}
	dir, err = os.MkdirTemp("", "avoqado-edge-dev-")
	return dir, func() { _ = os.RemoveAll(dir) }, err
}

// devSecret returns the secret of the seed's environment, else a random one.
func devSecret() (string, error) {
	if secret := os.Getenv("ACCESS_TOKEN_SECRET"); secret != "" {
		return secret, nil
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	return hex.EncodeToString(raw), nil
}

// devConfig goes through the same door as any configuration: a file, checked.
// The environment is left out, so that a shell made for a real box cannot turn
// this one into it.
func devConfig(o devOptions, state, secret, brokerURL string) (config.Config, error) {
	nothing := func(string) (string, bool) { return "", false }
	return config.Load("", nothing, map[string]string{
		"box.id":                   "box-dev",
		"box.venue":                o.venue,
		"state_dir":                state,
		"socket":                   filepath.Join(state, "avoqado-edge.sock"),
		"lan.listen":               o.listen,
		"lan.cors_origins":         devOrigins,
		"auth.access_token_secret": secret,
		"uplink.brokers":           brokerURL,
		"uplink.confirm":           "backend",
		"discovery.mode":           "off",
	})
}

// awaitAnswers returns once the box serves the LAN and the back-end and the
// box have met at the broker.
func awaitAnswers(ctx context.Context, url string, box *daemon.Daemon, backend *cloud.Backend) error {
	ctx, cancel := context.WithTimeout(ctx, devStart)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if answers(ctx, url+"/readyz") && box.Status().Uplink.State == "online" && backend.Online() {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("not everything answers after %s: LAN %v, uplink %s, back-end %v",
					devStart, answers(context.Background(), url+"/readyz"), box.Status().Uplink.State, backend.Online())
			}
			return nil // interrupted while starting
		case <-tick.C:
		}
	}
}

func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func announce(w io.Writer, r ready, code string, o devOptions) error {
	if o.asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	}
	p := &printer{w: w}
	p.line("Avoqado Edge is up: venue %s", r.Venue)
	p.line("")
	p.line("  Page       %s   log in with %s %s, or with a token", r.URL, code[:3], code[3:])
	p.line("  Socket.IO  %s", r.URL)
	p.line("  MQTT       %s", r.MQTT)
	p.line("  Look       avoqado-edge status --socket %s", r.Socket)
	p.line("             avoqado-edge events tail --socket %s", r.Socket)
	p.line("             avoqado-edge token code --socket %s   # another code for the page", r.Socket)
	p.line("")
	p.line("Tokens, valid for a day (auth: { token }):")
	p.line("")
	for _, role := range event.Roles() {
		p.line("  %-10s %s", role, r.Tokens[role])
	}
	p.line("")
	switch {
	case o.noSimulation:
		p.line("No simulated clients. Ctrl-C ends.")
	case o.outage > 0:
		p.line("Three terminals and a dashboard are at work; the uplink will be cut in %s for %s. Ctrl-C ends.", outageWait, o.outage)
	default:
		p.line("Three terminals and a dashboard are at work. Ctrl-C ends.")
	}
	return p.err
}

// figures is one line of `dev --json` after the first.
type figures struct {
	Stored  uint64 `json:"stored"`
	Synced  uint64 `json:"synced"`
	Backlog uint64 `json:"backlog"`
	Clients int    `json:"clients"`
	Uplink  string `json:"uplink"`
}

// showFigures keeps the live line, and cuts the uplink once if asked to.
func showFigures(ctx context.Context, s Streams, o devOptions, box *daemon.Daemon) error {
	live := newLiveLine(s.Out)
	defer live.end()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var cut <-chan time.Time
	if o.outage > 0 {
		cut = time.After(outageWait)
	}
	enc := json.NewEncoder(s.Out)
	for n := 0; ; n++ {
		st := box.Status()
		f := figures{
			Stored: st.Journal.StoredThrough, Synced: st.Journal.SyncedThrough,
			Backlog: st.Journal.Backlog.Events, Clients: st.LAN.Clients, Uplink: st.Uplink.State,
		}
		if !o.asJSON {
			live.show(fmt.Sprintf("stored %6d   synced %6d   backlog %5d   clients %2d   uplink %s",
				f.Stored, f.Synced, f.Backlog, f.Clients, f.Uplink))
		} else if n%2 == 0 {
			_ = enc.Encode(f) // a reader that left ends us by its own signal
		}
		select {
		case <-ctx.Done():
			return nil
		case <-cut:
			box.CutUplink(o.outage)
			if !o.asJSON {
				live.say("--- uplink cut for %s: the venue works on, the backlog grows ---", o.outage)
			}
			cut = nil
		case <-tick.C:
		}
	}
}

// pushAlerts plays the back-office: now and then a word to the managers.
func pushAlerts(ctx context.Context, access cloud.Access, prefix string) error {
	words := []struct{ level, title, message string }{
		{"info", "Corte de caja", "El corte de caja de hoy es a las 23:00."},
		{"warning", "Inventario", "Quedan 4 porciones de guacamole."},
		{"error", "Impresora", "La impresora de cocina no tiene papel."},
	}
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(alertEvery):
		}
		w := words[n%len(words)]
		payload, err := json.Marshal(map[string]string{"level": w.level, "title": w.title, "message": w.message})
		if err != nil {
			return err
		}
		sendCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		// An alert that does not get through is not worth ending the show for.
		_ = cloud.SendBroadcast(sendCtx, access, prefix, cloud.Broadcast{
			ID: event.NewID(), Event: event.SystemAlert, Payload: payload,
			Target: &event.Audience{Roles: []event.Role{event.Manager}},
		})
		cancel()
	}
}
