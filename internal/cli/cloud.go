package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func newCloud(s Streams) *cobra.Command {
	return group("cloud", "Stand in for the central back-end on a broker: listen, effects, send, command, config",
		newCloudListen(s), newCloudEffects(s), newCloudSend(s), newCloudCommand(s), newCloudConfig(s))
}

// brokerFlags are how both commands reach the broker.
type brokerFlags struct {
	broker, user, passwordFile, caFile, prefix, venue string
}

func (f *brokerFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.broker, "broker", "", "broker URL, such as tcp://127.0.0.1:1883")
	cmd.Flags().StringVar(&f.user, "username", "", "user name at the broker")
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "file with the password (or environment MQTT_PASSWORD)")
	cmd.Flags().StringVar(&f.caFile, "ca-file", "", "CA certificates for tls:// and wss://")
	cmd.Flags().StringVar(&f.venue, "venue", "", "venue id; for listen, + means all")
	cmd.Flags().StringVar(&f.prefix, "prefix", "", "topic prefix (default avoqado/v1/venues/VENUE)")
}

// access returns how to reach the broker, and the topic prefix.
func (f *brokerFlags) access() (a cloud.Access, prefix string, err error) {
	if f.broker == "" {
		return a, "", usagef("no broker is given: use --broker tcp://HOST:1883")
	}
	if prefix = f.prefix; prefix == "" {
		if f.venue == "" {
			return a, "", usagef("--venue is needed")
		}
		prefix = cloud.Prefix(f.venue)
	}
	a = cloud.Access{Broker: f.broker, Username: f.user, Password: os.Getenv("MQTT_PASSWORD")}
	if f.passwordFile != "" {
		raw, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return a, "", err
		}
		a.Password = strings.TrimSuffix(string(raw), "\n")
	}
	if f.caFile != "" {
		pem, err := os.ReadFile(f.caFile)
		if err != nil {
			return a, "", err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return a, "", usagef("%s holds no PEM certificate", f.caFile)
		}
		a.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return a, prefix, nil
}

func newCloudListen(s Streams) *cobra.Command {
	var (
		f      brokerFlags
		store  string
		asJSON bool
		quiet  bool
		holes  bool
		late   bool
		types  []string
		ids    []string
	)
	cmd := &cobra.Command{
		Use: "listen", Short: "Print the boxes' events and confirm them, as the back-end would", Args: cobra.NoArgs,
		Long: `A reference back-end: it keeps the effect of each event and its (source, epoch,
sequence) in one transaction in --store, then confirms on the box's acks topic.
It may be killed at any time; nothing takes effect twice. The file is the truth,
and cloud effects prints it: what is printed here comes after the commit, so
over a kill lines may be missing, and a line never stands for more than one
effect. Events that the box sends early on the live lane take effect early, and
not again in their turn. Do not point it at a broker that a real back-end
listens on: the boxes believe its confirmations.`,
		Example: "  avoqado-edge cloud listen --broker tcp://127.0.0.1:1883 --venue v1",
	}
	f.add(cmd)
	cmd.Flags().StringVar(&store, "store", "", "file of the ledger (default: one per prefix in the user's state folder)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each event as one JSON line")
	cmd.Flags().BoolVar(&holes, "accept-holes", false, "commit what comes behind a lost message: for boxes with uplink.confirm: broker")
	cmd.Flags().BoolVar(&late, "ignore-live", false, "leave the live lane alone: everything takes effect in total order")
	cmd.Flags().StringSliceVar(&types, "refuse-type", nil, "pass over events of this type and name them as rejected (repeatable)")
	cmd.Flags().StringSliceVar(&ids, "refuse-id", nil, "the same for the event with this id")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "confirm, but do not print events")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, _ []string) error {
		access, prefix, err := f.access()
		if err != nil {
			return err
		}
		if store == "" {
			if store, err = defaultLedger(prefix); err != nil {
				return err
			}
		}
		backend, err := cloud.OpenBackend(cloud.BackendConfig{
			Access: access, Path: store, Prefix: prefix, AcceptHoles: holes, IgnoreLive: late, Refuse: refuser(types, ids),
		}, wordyLog(s.Err))
		if err != nil {
			return err
		}
		defer func() { _ = backend.Close() }()
		_, _ = fmt.Fprintf(s.Err, "Listening on %s for %s, ledger %s. Ctrl-C ends.\n", hideUser(access.Broker), prefix, store)
		return backend.Run(cmd.Context(), func(e cloud.Effect) {
			if !quiet {
				printEffect(s.Out, e, asJSON)
			}
		})
	})
	return cmd
}

// hideUser returns a broker's URL without the user and password it may hold.
func hideUser(broker string) string {
	u, err := url.Parse(broker)
	if err != nil {
		return "the broker"
	}
	u.User = nil
	return u.String()
}

func defaultLedger(prefix string) (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".local", "state")
	}
	dir = filepath.Join(dir, "avoqado-edge")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	name := strings.NewReplacer("/", "_", "+", "all").Replace(prefix)
	return filepath.Join(dir, "ledger-"+name+".db"), nil
}

func printEffect(w io.Writer, e cloud.Effect, asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(w).Encode(e) // a closed pipe ends the program by its own signal
		return
	}
	mark := ""
	switch {
	case e.Live:
		mark = "early "
	case e.Refused != "":
		mark = "(" + e.Refused + ") "
	}
	_, _ = fmt.Fprintf(w, "%s %8d %-22s %-20s %s%s\n", e.Source, e.Seq, strings.TrimPrefix(e.Type, "io.avoqado."), e.Subject, mark, e.Data)
}

func newCloudSend(s Streams) *cobra.Command {
	var (
		f                              brokerFlags
		id, kind, payload              string
		title, message, level          string
		tables, orders, users, devices []string
		roles                          []string
		expires                        time.Duration
	)
	cmd := &cobra.Command{
		Use: "send", Short: "Push a broadcast to the boxes of a venue, as the back-end would", Args: cobra.NoArgs,
		Example: `  avoqado-edge cloud send --broker tcp://127.0.0.1:1883 --venue v1 --role MANAGER --title "Cash drawer" --message "Open for 10 minutes"
  avoqado-edge cloud send --broker … --venue v1 --event order_updated --table t4 --payload '{"orderId":"o1","status":"READY"}'`,
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&id, "id", "", "id of the broadcast; the same id is delivered once (default: a new one)")
	flags.StringVar(&kind, "event", string(event.SystemAlert), "event name")
	flags.StringVar(&payload, "payload", "", "JSON object (default for system_alert: made of --title, --message, --level)")
	flags.StringVar(&title, "title", "", "title of the alert")
	flags.StringVar(&message, "message", "", "text of the alert")
	flags.StringVar(&level, "level", "info", "level of the alert: info, warning, error, critical")
	flags.StringSliceVar(&roles, "role", nil, "only these roles (repeatable)")
	flags.StringSliceVar(&tables, "table", nil, "only members of these table rooms")
	flags.StringSliceVar(&orders, "order", nil, "only members of these order rooms")
	flags.StringSliceVar(&users, "user", nil, "only these staff ids")
	flags.StringSliceVar(&devices, "terminal", nil, "only these terminals")
	flags.DurationVar(&expires, "expires", 0, "not shown after this time (0: never expires)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		access, prefix, err := f.access()
		if err != nil {
			return err
		}
		if payload == "" {
			if kind != string(event.SystemAlert) || title == "" || message == "" {
				return usagef("give --payload, or for a system_alert --title and --message")
			}
			raw, err := json.Marshal(map[string]string{"level": level, "title": title, "message": message})
			if err != nil {
				return err
			}
			payload = string(raw)
		}
		if _, err := event.ParseObject([]byte(payload)); err != nil {
			return usagef("--payload: %w", err)
		}
		b := cloud.Broadcast{ID: event.ID(id), Event: event.Kind(kind), Payload: json.RawMessage(payload)}
		if b.ID == "" {
			b.ID = event.NewID()
		}
		if expires > 0 {
			at := time.Now().Add(expires).UTC()
			b.ExpiresAt = &at
		}
		b.Target = &event.Audience{Tables: tables, Orders: orders, Users: users, Terminals: devices}
		for _, r := range roles {
			role := event.Role(strings.ToUpper(r))
			if !role.Known() {
				return usagef("role %q is not one of %s", r, roleNames())
			}
			b.Target.Roles = append(b.Target.Roles, role)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		if err := cloud.SendBroadcast(ctx, access, prefix, b); err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.Out, "Sent %s %s; the broker has it.\n", b.Event, b.ID)
		return err
	}
	return cmd
}
