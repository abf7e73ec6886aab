package cli

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/config"
)

// provision is what the back-end makes a box the box of a venue with: a file, or
// the text of a QR code.
type provision struct {
	Format            int      `json:"avoqadoEdge"` // 1
	VenueID           string   `json:"venueId"`
	BoxID             string   `json:"boxId"`
	Name              string   `json:"name"`
	Brokers           []string `json:"brokers"`
	Username          string   `json:"username"` // at the brokers
	Password          string   `json:"password"`
	AccessTokenSecret string   `json:"accessTokenSecret"`
}

const (
	provisionFormat = 1
	provisionPrefix = "avoqado-edge:" // of a QR code's text; base64 of the JSON follows
	provisionMax    = 64 << 10
)

func newClaim(s Streams) *cobra.Command {
	var (
		out   string
		force bool
	)
	cmd := &cobra.Command{
		Use: "claim FILE", Short: "Make this box a venue's, by the back-end's provisioning file or QR text", Args: cobra.ExactArgs(1),
		Long: `Writes the configuration, and its secrets into files beside it that only their
owner can read. FILE is the provisioning file, or holds the text of its QR code;
- reads it from standard input. A box that waits to be claimed begins to work
within seconds; one that is claimed already is left alone without --force.`,
		Example: `  sudo avoqado-edge claim venue.json
  sudo avoqado-edge claim -`,
	}
	cmd.Flags().StringVar(&out, "out", defaultConfig, "configuration to write")
	cmd.Flags().BoolVar(&force, "force", false, "replace files that are there, the secrets too")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		p, err := readProvision(s.In, args[0])
		if err != nil {
			return err
		}
		err = writeConfig(out, config.Answers{
			Venue: p.VenueID, ID: p.BoxID, Name: p.Name, Brokers: p.Brokers, Username: p.Username, Secret: p.AccessTokenSecret,
		}, p.Password, force)
		if err != nil {
			return err
		}
		pr := &printer{w: s.Out}
		pr.line("This box is venue %s's now: %s, secrets beside it.", p.VenueID, out)
		if force && out == defaultConfig {
			pr.line("Next: systemctl restart avoqado-edge")
		} else {
			pr.line("Next: avoqado-edge status")
		}
		return pr.err
	}
	return cmd
}

// readProvision reads what the back-end made. No message repeats any of it: it
// holds secrets.
func readProvision(stdin io.Reader, path string) (p provision, err error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return p, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, provisionMax))
	if err != nil {
		return p, err
	}
	raw = bytes.TrimSpace(raw)
	if code, ok := strings.CutPrefix(string(raw), provisionPrefix); ok {
		if raw, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(code, "=")); err != nil {
			return p, usagef("the QR text is not whole: copy it again from %q to its end", provisionPrefix)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		var kind *json.UnmarshalTypeError
		var syntax *json.SyntaxError
		switch {
		case errors.As(err, &kind):
			return p, usagef("the provisioning file has a wrong %s", cmp.Or(kind.Field, "form"))
		case errors.As(err, &syntax), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return p, usagef("this is no provisioning file of Avoqado Edge, or not the whole of it")
		}
		return p, usagef("the provisioning file is of another kind or version: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	switch {
	case p.Format != provisionFormat:
		return p, usagef("the provisioning file has format %d, this version knows %d: upgrade avoqado-edge", p.Format, provisionFormat)
	case p.VenueID == "":
		return p, usagef("the provisioning file names no venue (venueId)")
	case p.AccessTokenSecret == "":
		return p, usagef("the provisioning file has no accessTokenSecret")
	}
	return p, nil
}

// claimed reports whether anything says whose this box is.
func claimed() bool {
	if os.Getenv("AVOQADO_EDGE_BOX_VENUE") != "" {
		return true
	}
	_, err := os.Lstat(defaultConfig)
	return err == nil
}

// unclaimedListen is where the page of a box without a configuration is shown.
func unclaimedListen(flag string) string {
	return cmp.Or(flag, os.Getenv("AVOQADO_EDGE_LAN_LISTEN"), ":8080")
}
