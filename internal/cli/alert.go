package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
)

func newAlert(s Streams) *cobra.Command {
	cmd := &cobra.Command{Use: "alert", Short: "Tell people in the venue something"}
	cmd.AddCommand(newAlertSend(s))
	return cmd
}

func newAlertSend(s Streams) *cobra.Command {
	var a api.Alert
	var asJSON bool
	cmd := &cobra.Command{
		Use: "send", Short: "Show an alert on the venue's terminals and dashboards, as the cloud would", Args: cobra.NoArgs,
		Long: `Who is away is shown it later, within a day. It needs no cloud; the cloud is
told of it like of any event.`,
		Example: `  avoqado-edge alert send --title Corte --message "A las 23:00 se apaga el módem"
  avoqado-edge alert send --level warning --role MANAGER --title Caja --message "Falta cambio"`,
	}
	socket := socketFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&a.Title, "title", "", "its title")
	f.StringVar(&a.Message, "message", "", "its text")
	f.StringVar(&a.Level, "level", "info", "info, warning, error or critical")
	f.StringSliceVar(&a.Roles, "role", nil, "only these roles (repeatable)")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	_ = cmd.MarkFlagRequired("title")
	_ = cmd.MarkFlagRequired("message")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		c := api.NewClient(*socket)
		st, err := c.Status(ctx)
		if err != nil {
			return err
		}
		a.Venue = st.Venue
		id, err := c.Alert(ctx, a)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(s.Out, map[string]string{"eventId": id})
		}
		_, err = fmt.Fprintf(s.Out, "Stored as %s, and shown to who is there.\n", id)
		return err
	}
	return cmd
}
