package cli

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/service"
)

func newService(s Streams) *cobra.Command {
	return group("service", "The OS service that keeps the box running: install, uninstall, start, stop, restart, status",
		newServiceVerb(s, "install", "Make the service of this program, and have it start with the machine", (*service.Service).Install,
			"Installed. Next: avoqado-edge claim FILE, then avoqado-edge service start."),
		newServiceVerb(s, "uninstall", "Stop the service and take it away; what the box knows stays", (*service.Service).Uninstall, "Uninstalled."),
		newServiceVerb(s, "start", "Start the service", (*service.Service).Start, "Started."),
		newServiceVerb(s, "stop", "Stop the service", (*service.Service).Stop, "Stopped."),
		newServiceVerb(s, "restart", "Stop the service and start it again; clients come back by themselves", (*service.Service).Restart, "Restarted."),
		newServiceStatus(s))
}

func thisService() (*service.Service, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return service.New(path)
}

func newServiceVerb(s Streams, verb, short string, do func(*service.Service) error, done string) *cobra.Command {
	return &cobra.Command{
		Use: verb, Short: short, Args: cobra.NoArgs,
		Long: `For a program that no package installed: on systemd it is the unit that packages
ship, elsewhere what the init system has. Beside a package install and uninstall
refuse, and say what to do instead. Takes an administrator.`,
		Example: "  sudo avoqado-edge service " + verb,
		RunE: func(*cobra.Command, []string) error {
			svc, err := thisService()
			if err != nil {
				return err
			}
			if err := do(svc); err != nil {
				return err
			}
			p := &printer{w: s.Out}
			p.line("%s", done)
			return p.err
		},
	}
}

// serviceStatus is what the OS knows, and what the box says of itself.
type serviceStatus struct {
	System string      `json:"system"`
	State  string      `json:"state"`
	Box    *api.Status `json:"box,omitempty"` // none answers
}

func newServiceStatus(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "What the OS knows of the service, and what the box says of itself", Args: cobra.NoArgs,
		Long: `Exit code 0: it runs and all is well; 4: it runs, but something needs a look; 3:
it does not run, or no box answers.`,
		Example: "  avoqado-edge service status",
	}
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		svc, err := thisService()
		if err != nil {
			return err
		}
		st := serviceStatus{System: svc.System()}
		if st.State, err = svc.State(); err != nil {
			return err
		}
		box, err := askStatus(cmd.Context(), api.NewClient(*socket))
		switch {
		case err == nil:
			st.Box = &box
		case !errors.Is(err, api.ErrNotRunning):
			return err
		}
		if asJSON {
			err = printJSON(s.Out, st)
		} else {
			err = printServiceStatus(s, st)
		}
		switch {
		case err != nil:
			return err
		case st.Box == nil:
			return &silentError{ExitNotRunning}
		case len(st.Box.Problems) > 0:
			return &silentError{ExitDegraded}
		}
		return nil
	}
	return cmd
}

func printServiceStatus(s Streams, st serviceStatus) error {
	p := &printer{w: s.Out}
	p.line("Service  %s (%s)", st.State, st.System)
	if st.Box == nil {
		p.line("Box      none answers")
		return p.err
	}
	if p.err != nil {
		return p.err
	}
	return printStatus(s.Out, *st.Box)
}
