package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/discovery"
)

func newDiscover(s Streams) *cobra.Command {
	var (
		search   discovery.Search
		qr       string
		timeout  time.Duration
		noMDNS   bool
		noScan   bool
		asJSON   bool
		defaults = discovery.DefaultPort
	)
	cmd := &cobra.Command{
		Use: "discover", Short: "Find boxes on this LAN as a terminal would",
		Long: `Asks the addresses it was given; if none is a box within 0.3 s, also listens to
mDNS; if that finds no box in 1.5 s, also asks each private address of its own
networks (a /24 at most). Once one way leads to a box no other is begun. If none
does, it says what to do. A box is believed if the card it shows is signed, and
lists the address that it came from; with --key or --qr the key must be that
one, too.

Exit code 1: no box was found. Exit code 4: one was found, and something else
posed as a box, or did not answer where it was announced; or two say to be one.`,
		Example: `  avoqado-edge discover
  avoqado-edge discover --venue venue_1 --json
  avoqado-edge discover --qr 'avoqado-edge://pair?...'
  avoqado-edge discover --address 192.168.1.10:8080 --no-mdns`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&search.Venue, "venue", "", "look for boxes of this venue alone")
	f.StringVar(&search.Box, "box", "", "look for this box alone")
	f.StringVar(&search.Key, "key", "", "fingerprint of the box's key, as \"pair\" prints it")
	f.StringArrayVar(&search.Known, "address", nil, "an address to ask, host:port; may be repeated")
	f.StringVar(&qr, "qr", "", "text of the box's QR code: addresses, venue, box and key")
	f.StringArrayVar(&search.Interfaces, "interface", nil, "network interface to use; may be repeated")
	f.IntVar(&search.Port, "port", defaults, "port to ask in a scan")
	f.BoolVar(&noMDNS, "no-mdns", false, "do not listen to mDNS")
	f.BoolVar(&noScan, "no-scan", false, "do not ask each address of the network")
	f.DurationVar(&timeout, "timeout", 30*time.Second, "for the whole search")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := complete(&search, qr, timeout); err != nil {
			return err
		}
		search.Scan = !noScan
		if noMDNS {
			search.Browse = -1
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		r := discovery.Find(ctx, search)
		var err error
		if asJSON {
			err = printJSON(s.Out, r)
		} else {
			err = printFound(s.Out, r, search.Key != "")
		}
		switch {
		case err != nil:
			return err
		case len(r.Found) == 0:
			return &silentError{ExitFailed}
		case len(r.Refused) > 0, r.Advice != "":
			return &silentError{ExitDegraded}
		}
		return nil
	}
	return cmd
}

// complete checks what was typed and takes from the QR code what was not.
func complete(search *discovery.Search, qr string, timeout time.Duration) error {
	if timeout <= 0 {
		return usagef("--timeout %s is not above zero", timeout)
	}
	if search.Port < 1 || search.Port > 65535 {
		return usagef("--port %d is not within 1 and 65535", search.Port)
	}
	if qr != "" {
		p, err := discovery.ParsePairing(qr)
		if err != nil {
			return &usageError{err}
		}
		for _, one := range []struct {
			flag string
			to   *string
			is   string
		}{{"venue", &search.Venue, p.Venue}, {"box", &search.Box, p.Box}, {"key", &search.Key, p.Key}} {
			if *one.to != "" && *one.to != one.is {
				return usagef("--%s %s is not what the QR code says: %s", one.flag, *one.to, one.is)
			}
			*one.to = one.is
		}
		search.Known = append(search.Known, p.Addresses...)
	}
	for i, a := range search.Known {
		if _, _, err := net.SplitHostPort(a); err != nil {
			search.Known[i] = net.JoinHostPort(strings.Trim(a, "[]"), fmt.Sprint(search.Port))
		}
	}
	if search.Key = strings.ToLower(strings.ReplaceAll(search.Key, ":", "")); search.Key != "" && len(search.Key) != 64 {
		return usagef("--key has %d digits, a fingerprint has 64", len(search.Key))
	}
	return nil
}

func printFound(w io.Writer, r discovery.Report, pinned bool) error {
	p := &printer{w: w}
	for _, a := range r.Attempts {
		said := fmt.Sprintf("%s in %s", plural(a.Heard, "answer"), tidy(a.Took))
		if a.Way != discovery.WayMDNS {
			said = fmt.Sprintf("%d asked, %s", a.Asked, said)
		}
		if a.Error != "" {
			said += ": " + a.Error
		}
		p.line("%-8s %s", a.Way, said)
	}
	for _, one := range r.Found {
		p.line("")
		p.line("Box      %s of venue %s%s", one.Box, one.Venue, named(one.Name))
		p.line("Address  %s, by %s after %s", one.Address, one.Way, tidy(one.Took))
		p.line("State    %s, version %s, TLS %s", one.State, one.Version, onOff(one.TLS))
		p.line("Key      %s", one.Key)
		if !pinned {
			p.line("         Whether it is the right box is for you to see: compare with `avoqado-edge pair` there.")
		}
	}
	for _, one := range r.Refused {
		p.line("")
		p.line("REFUSED  %s, by %s: %s", one.Address, one.Way, one.Refused)
		if one.Box != "" {
			p.line("         It says that it is box %s of venue %s.", one.Box, one.Venue)
		}
	}
	switch {
	case r.Way == "":
		p.line("")
		p.line("No box was found. %s", r.Advice)
	case r.Advice != "":
		p.line("")
		p.line("WARNING  %s", r.Advice)
	}
	return p.err
}

func tidy(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func named(name string) string {
	if name == "" {
		return ""
	}
	return " (" + name + ")"
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
