package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func newToken(s Streams) *cobra.Command {
	return group("token", "Tokens: mint one for a test or a technician, read one, log in without one", newTokenMint(s), newTokenInspect(s), newTokenCode(s))
}

func newTokenMint(s Streams) *cobra.Command {
	var (
		venue, role, subject, terminal, org string
		lifetime                            time.Duration
	)
	cmd := &cobra.Command{
		Use: "mint", Short: "Make an access token, signed with the venue's secret", Args: cobra.NoArgs,
		Long: `The secret comes from --config, or from ACCESS_TOKEN_SECRET or
ACCESS_TOKEN_SECRET_FILE. Whoever holds the token acts with the role: keep --for
short.`,
		Example: "  avoqado-edge token mint --config /etc/avoqado-edge/config.yaml --role MANAGER --for 1h",
	}
	path := configFlag(cmd)
	cmd.Flags().StringVar(&venue, "venue", "", "venue id (default: the configuration's)")
	cmd.Flags().StringVar(&role, "role", "MANAGER", "staff role: "+roleNames())
	cmd.Flags().StringVar(&subject, "sub", "technician", "staff id")
	cmd.Flags().StringVar(&terminal, "terminal", "", "terminal serial, such as AVQD-2841548417")
	cmd.Flags().StringVar(&org, "org", "", "organisation id (default: the venue id)")
	cmd.Flags().DurationVar(&lifetime, "for", time.Hour, "lifetime")
	cmd.RunE = func(*cobra.Command, []string) error {
		role := event.Role(strings.ToUpper(role))
		if !role.Known() {
			return usagef("role %q is not one of %s", role, roleNames())
		}
		if lifetime <= 0 {
			return usagef("--for %s is not above zero", lifetime)
		}
		secret, configured, err := secretAndVenue(*path)
		if err != nil {
			return err
		}
		if venue == "" {
			venue = configured
		}
		if venue == "" {
			return usagef("--venue is needed: there is no configuration that names one")
		}
		v, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: secret}, time.Now)
		if err != nil {
			return &usageError{err}
		}
		if org == "" {
			org = venue
		}
		token, err := v.Mint(auth.Grant{Subject: subject, Org: org, Venue: venue, Role: role, Terminal: terminal}, lifetime)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.Out, token)
		return err
	}
	return cmd
}

// secretAndVenue finds the signing secret in the configuration where there is
// one, else in the environment alone.
func secretAndVenue(path string) (secret []byte, venue string, err error) {
	if path == "" {
		if _, err := os.Stat(defaultConfig); err == nil {
			path = defaultConfig
		}
	}
	if path != "" {
		cfg, err := loadConfig(path, nil)
		if err != nil {
			return nil, "", err
		}
		return []byte(cfg.Auth.AccessTokenSecret.Reveal()), cfg.Box.Venue, nil
	}
	if value := os.Getenv("ACCESS_TOKEN_SECRET"); value != "" {
		return []byte(value), "", nil
	}
	if file := os.Getenv("ACCESS_TOKEN_SECRET_FILE"); file != "" {
		raw, err := os.ReadFile(file)
		return []byte(strings.TrimSuffix(string(raw), "\n")), "", err
	}
	return nil, "", usagef("there is no secret to sign with: give --config, or set ACCESS_TOKEN_SECRET")
}

func roleNames() string {
	names := make([]string, 0, len(event.Roles()))
	for _, r := range event.Roles() {
		names = append(names, string(r))
	}
	return strings.Join(names, " ")
}

func newTokenCode(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "code", Short: "Make a code that logs one browser into the box's own page", Args: cobra.NoArgs,
		Long: `The code has six digits, is good for ten minutes and one login, and ends
after five wrong tries. Making another one ends it, too. Whoever uses it has the
rights of an ADMIN for eight hours, or until the box restarts.`,
		Example: "  avoqado-edge token code",
	}
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.RunE = func(*cobra.Command, []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		code, err := api.NewClient(*socket).LoginCode(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(s.Out, code)
		}
		_, err = fmt.Fprintf(s.Out, "%s %s   good until %s, for one login\n", code.Code[:3], code.Code[3:], code.Expires.Local().Format(time.TimeOnly))
		return err
	}
	return cmd
}

func newTokenInspect(s Streams) *cobra.Command {
	return &cobra.Command{
		Use: "inspect [TOKEN]", Short: "Read a token's claims, without checking its signature", Args: cobra.MaximumNArgs(1),
		Long: `Without TOKEN it is read from standard input, which keeps it out of the shell's
history.`,
		Example: "  avoqado-edge token mint --role WAITER | avoqado-edge token inspect",
		RunE: func(cmd *cobra.Command, args []string) error {
			var token string
			if len(args) == 1 {
				token = args[0]
			} else {
				raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 64<<10))
				if err != nil {
					return err
				}
				token = string(raw)
			}
			token = strings.TrimPrefix(strings.TrimSpace(token), "Bearer ")
			if token == "" {
				return usagef("there is no token")
			}
			claims, err := auth.Inspect(token)
			if err != nil {
				return errors.New("this is not a token the box can read: " + err.Error())
			}
			return printJSON(s.Out, claims)
		},
	}
}
