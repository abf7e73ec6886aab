package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/discovery"
)

// pairing is what a device must know to find the box and to believe it.
type pairing struct {
	Box         string   `json:"box"`
	Venue       string   `json:"venue"`
	TLS         string   `json:"tls"`                   // off, auto or files
	URLs        []string `json:"urls"`                  // of the box, the likeliest first
	Key         string   `json:"key,omitempty"`         // fingerprint of the box's key, SHA-256 in hex
	QR          string   `json:"qr,omitempty"`          // text of the QR code
	CA          string   `json:"ca,omitempty"`          // where a device gets the box's CA
	Fingerprint string   `json:"fingerprint,omitempty"` // of that CA, SHA-256 in hex
}

func newPair(s Streams) *cobra.Command {
	var (
		asJSON, code bool
		png, svg     string
	)
	cmd := &cobra.Command{
		Use: "pair", Short: "How a device finds this box and comes to trust it",
		Long: `Asks the running box for its addresses and its CA, and tells how a technician
has phones, tablets and computers trust it. The QR code for the installation
sheet holds addresses, venue, box, and the fingerprints of CA and key; nothing
in it is secret. Exit code 3: no box answers.`,
		Example: `  avoqado-edge pair
  avoqado-edge pair --qr
  avoqado-edge pair --png sheet.png
  avoqado-edge pair --json | jq -r .fingerprint`,
		Args: cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON, without the instructions")
	cmd.Flags().BoolVar(&code, "qr", false, "print the QR code, without the instructions")
	cmd.Flags().StringVar(&png, "png", "", "write the QR code to this file, as PNG")
	cmd.Flags().StringVar(&svg, "svg", "", "write the QR code to this file, as SVG")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		st, err := askStatus(cmd.Context(), api.NewClient(*socket))
		if err != nil {
			return err
		}
		p := pairingOf(st)
		switch {
		case asJSON:
			return printJSON(s.Out, p)
		case code || png != "" || svg != "":
			return drawPairing(s, p, code, png, svg)
		}
		return printPairing(s.Out, p)
	}
	return cmd
}

// drawPairing prints or writes the QR code.
func drawPairing(s Streams, p pairing, shown bool, png, svg string) error {
	if p.QR == "" {
		return errors.New("the box has no key to be known by: avoqado-edge status says why")
	}
	code, err := newQR(p.QR)
	if err != nil {
		return err
	}
	if png != "" {
		if err := writePNG(png, code); err != nil {
			return err
		}
	}
	if svg != "" {
		if err := writeSVG(svg, p.QR); err != nil {
			return err
		}
	}
	if !shown {
		return nil
	}
	if err := printQR(s.Out, code, isTerminal(s.Out) && os.Getenv("NO_COLOR") == ""); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "Box %s of venue %s\n%s\n", p.Box, p.Venue, p.QR)
	return err
}

func pairingOf(st api.Status) pairing {
	p := pairing{Box: st.Box, Venue: st.Venue, TLS: "off", Key: st.LAN.Key}
	_, port, _ := net.SplitHostPort(st.LAN.Address) // it is one
	var hosts []string
	for _, a := range st.LAN.Addresses {
		if host, _, err := net.SplitHostPort(a); err == nil {
			hosts = append(hosts, host)
		}
	}
	scheme := "http"
	if t := st.LAN.TLS; t != nil {
		p.TLS, p.Fingerprint, scheme = t.Mode, t.Fingerprint, "https"
		hosts = append(hosts, t.Names...)
	}
	if p.Key != "" {
		p.QR = discovery.Pairing{
			Box: st.Box, Venue: st.Venue, Addresses: st.LAN.Addresses, TLS: st.LAN.TLS != nil, Fingerprint: p.Fingerprint, Key: p.Key,
		}.URI()
	}
	for _, host := range hosts {
		p.URLs = append(p.URLs, scheme+"://"+net.JoinHostPort(host, port))
	}
	if p.TLS == "auto" && p.Fingerprint != "" && len(hosts) > 0 {
		p.CA = "http://" + net.JoinHostPort(hosts[0], port) + "/ca.crt"
	}
	return p
}

func printPairing(w io.Writer, pair pairing) error {
	p := &printer{w: w}
	p.line("Box          %s of venue %s", pair.Box, pair.Venue)
	for i, url := range pair.URLs {
		p.line("%-12s %s", []string{"Address", ""}[min(i, 1)], url)
	}
	p.line("Key          %s", pair.Key)
	switch {
	case pair.CA != "":
		p.line("CA           %s", pair.CA)
		p.line("Fingerprint  %s", colons(pair.Fingerprint))
		p.line("%s", fmt.Sprintf(installing, pair.CA, pair.Fingerprint))
	case pair.TLS == "auto":
		p.line("The box has no CA now: avoqado-edge status says why.")
	case pair.TLS == "files":
		p.line("The certificate comes from files: devices must trust who signed it.")
	default:
		p.line("TLS is off: what is said on the LAN can be read there. Set lan.tls to auto.")
	}
	return p.err
}

// colons writes a fingerprint as certificate viewers show it.
func colons(fingerprint string) string {
	var b strings.Builder
	for i, r := range strings.ToUpper(fingerprint) {
		if i > 0 && i%2 == 0 {
			b.WriteByte(':')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// installing tells how a CA gets onto a device; first where from, then its
// fingerprint.
const installing = `
Have a device trust the box: open %[1]s
on it, install the file as below, and compare the fingerprint before you agree.
The CA can vouch for names below .local, those in lan.tls_names and addresses,
and for nothing else. It stays the same until the box is set up anew.

Android      Settings > Security & privacy > More security settings >
             Encryption & credentials > Install a certificate > CA certificate,
             choose the file. Chrome trusts it then. Apps do only if they say
             so: a POS app pins the fingerprint instead.
iPhone, iPad Open the address in Safari, allow the download. Settings > Profile
             downloaded > Install. Then Settings > General > About > Certificate
             Trust Settings, and switch it on there: without that it is not used.
Windows      Open the file > Install Certificate > Local Machine > Place in
             "Trusted Root Certification Authorities". Or as administrator:
             certutil -addstore Root avoqado-edge-ca.crt
             Chrome and Edge trust it after a restart.
macOS        sudo security add-trusted-cert -d -r trustRoot \
               -k /Library/Keychains/System.keychain avoqado-edge-ca.crt
Chrome on    chrome://certificate-manager > Local certificates > Custom >
Linux        Installed by you > Trusted certificates > Import. Or:
             certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n avoqado-edge \
               -i avoqado-edge-ca.crt
Firefox      Settings > Privacy & Security > Certificates > View Certificates >
             Authorities > Import, for identifying websites.
Own programs A trust store with this CA alone (Java: keytool -importcert; Node:
             the option ca), or a check that the second certificate the box
             shows has the SHA-256
             %[2]s
             and has signed the first, which must name the address.`
