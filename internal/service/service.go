package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	kardianos "github.com/kardianos/service"

	"github.com/avoqado/avoqado-edge/systemd"
)

// Name is that of the service, of its user, and of the program.
const Name = "avoqado-edge"

const (
	packagedProgram = "/usr/bin/avoqado-edge" // as the unit has it
	commandTimeout  = 30 * time.Second

	sysV = "unix-systemv" // as the library calls it
)

// The states of a service.
const (
	Running      = "running"
	Stopped      = "stopped"
	NotInstalled = "not installed"
)

// PackagedError says that the service is a package's, and whose job the request
// is then.
type PackagedError struct {
	By     string // what says so: the path of the unit, or of the program
	Remedy string // a command
}

// Error names the package's file and the command that does the job.
func (e *PackagedError) Error() string {
	return fmt.Sprintf("the service was installed by a package (%s), so it is not touched here: %s", e.By, e.Remedy)
}

// Service is the service of the box as the machine's init system has it:
// systemd, OpenRC, SysV, launchd or Windows' service manager. What changes it
// takes an administrator. Not for concurrent use.
type Service struct {
	program string // absolute, without symbolic links
	system  kardianos.Service
	run     func(stdin []byte, name string, args ...string) (stdout string, err error)
}

// program does nothing: what runs the box is `avoqado-edge run`.
type program struct{}

func (program) Start(kardianos.Service) error { return nil }
func (program) Stop(kardianos.Service) error  { return nil }

// New returns the service that runs the program at path.
func New(path string) (*Service, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	unit := bytes.ReplaceAll(systemd.Unit, []byte("="+packagedProgram+" "), []byte("="+path+" "))
	system, err := kardianos.New(program{}, &kardianos.Config{
		Name: Name, DisplayName: "Avoqado Edge", Description: "Avoqado Edge, the venue box",
		Executable: path, Arguments: []string{"run"},
		Option: kardianos.KeyValue{
			"SystemdScript": string(unit), "OnFailure": "restart", "OnFailureDelayDuration": "2s",
		},
	})
	if err != nil {
		return nil, fmt.Errorf("no init system that can be used here: %w", err)
	}
	return &Service{program: path, system: system, run: run}, nil
}

// System names the init system, such as linux-systemd.
func (s *Service) System() string { return s.system.Platform() }

func (s *Service) onSystemd() bool { return s.System() == "linux-systemd" }

// byScript reports whether the init system has services as scripts.
func (s *Service) byScript() bool {
	return s.System() == sysV || s.System() == "linux-openrc"
}

// Install makes the service and has it start with the machine; it does not start
// it. On systemd it writes the unit that packages ship, for this program. It
// refuses beside a package, where a service is already, and a program that
// systemd's sandbox could not reach.
func (s *Service) Install() error {
	if err := s.packaged("systemctl enable --now " + Name); err != nil {
		return err
	}
	if state, err := s.State(); err == nil && state != NotInstalled {
		return fmt.Errorf("the service is installed already and %s: avoqado-edge service uninstall first, or restart for a new program in its place", state)
	}
	if s.onSystemd() {
		if err := reachable(s.program); err != nil {
			return err
		}
		if _, err := s.run(systemd.SysUsers, "systemd-sysusers", "-"); err != nil {
			return fmt.Errorf("make the user %s: %w", Name, err)
		}
	}
	if err := s.system.Install(); err != nil {
		if s.onSystemd() { // half a unit would be in the way of the next try
			_ = os.Remove("/etc/systemd/system/" + Name + ".service")
		}
		return fmt.Errorf("install the service: %w", err)
	}
	return nil
}

// Uninstall stops the service and takes it away. What the box knows stays.
func (s *Service) Uninstall() error {
	if err := s.packaged("apt remove " + Name + ", or dnf remove " + Name); err != nil {
		return err
	}
	if state, err := s.State(); err == nil && state == Running {
		if err := s.system.Stop(); err != nil {
			return fmt.Errorf("stop the service: %w", err)
		}
	}
	if err := s.system.Uninstall(); err != nil {
		return fmt.Errorf("uninstall the service: %w", err)
	}
	if s.System() != sysV {
		return nil
	}
	// The library leaves them; each start of the machine would complain.
	links, err := filepath.Glob("/etc/rc[0-6].d/[SK][0-9][0-9]" + Name)
	for _, link := range links {
		err = errors.Join(err, os.Remove(link))
	}
	return err
}

// Start starts the service; on systemd it returns once the box is ready.
func (s *Service) Start() error { return s.system.Start() }

// Stop stops the service and returns once it has stopped.
func (s *Service) Stop() error { return s.system.Stop() }

// Restart stops and starts it.
func (s *Service) Restart() error { return s.system.Restart() }

// State says what the init system knows: [Running], [Stopped] or [NotInstalled];
// on systemd also its own words for what is none of them, such as "activating
// (auto-restart)" for a box that does not come up.
func (s *Service) State() (string, error) {
	if s.onSystemd() {
		return s.systemdState()
	}
	if _, err := os.Lstat("/etc/init.d/" + Name); err != nil && s.byScript() {
		return NotInstalled, nil // the library asks a script that is not there
	}
	if s.System() == sysV {
		return s.sysVState()
	}
	status, err := s.system.Status()
	switch {
	case errors.Is(err, kardianos.ErrNotInstalled):
		return NotInstalled, nil
	case err != nil:
		return "", err
	case status == kardianos.StatusRunning:
		return Running, nil
	}
	return Stopped, nil
}

// sysVState asks itself: the library takes a script's code 1, which says that
// the service is stopped, for an error.
func (s *Service) sysVState() (string, error) {
	_, err := s.run(nil, "service", Name, "status")
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return Stopped, nil
	}
	if err != nil {
		return "", err
	}
	return Running, nil
}

// systemdState asks itself: the library takes a unit that is reloading for one
// that is not there, and one that starts again and again for a running one.
func (s *Service) systemdState() (string, error) {
	out, err := s.run(nil, "systemctl", "show", "-p", "LoadState,ActiveState,SubState", Name+".service")
	if err != nil {
		return "", err
	}
	is := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		is[key] = value
	}
	switch {
	case is["LoadState"] == "not-found":
		return NotInstalled, nil
	case is["ActiveState"] == "active":
		return Running, nil
	case is["ActiveState"] == "inactive":
		return Stopped, nil
	}
	return fmt.Sprintf("%s (%s)", is["ActiveState"], is["SubState"]), nil
}

// packaged returns a PackagedError if unit or program came from a package: a
// unit in /etc would hide what the package's upgrades bring.
func (s *Service) packaged(remedy string) error {
	if !s.onSystemd() {
		return nil
	}
	out, err := s.run(nil, "systemctl", "show", "--value", "-p", "FragmentPath", Name+".service")
	if path := strings.TrimSpace(out); err == nil && (strings.HasPrefix(path, "/usr/lib/") || strings.HasPrefix(path, "/lib/")) {
		return &PackagedError{path, remedy}
	}
	for _, ask := range [][]string{{"dpkg-query", "-S", s.program}, {"rpm", "-qf", s.program}} {
		if _, err := s.run(nil, ask[0], ask[1:]...); err == nil {
			return &PackagedError{s.program, remedy}
		}
	}
	return nil
}

// reachable refuses a program that the unit's sandbox hides (ProtectHome=,
// PrivateTmp=), or whose path systemd would read as something else.
func reachable(path string) error {
	for _, hidden := range []string{"/home/", "/root/", "/run/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(path, hidden) {
			return fmt.Errorf("the service could not reach %s: install -m 0755 %s /usr/local/bin/, and run it from there", path, path)
		}
	}
	if !regexp.MustCompile(`^[A-Za-z0-9/_.+-]+$`).MatchString(path) {
		return fmt.Errorf("%q has characters that a unit cannot name: install it as /usr/local/bin/%s, and run it from there", path, Name)
	}
	return nil
}

func run(stdin []byte, name string, args ...string) (stdout string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the names above
	cmd.Stdin = bytes.NewReader(stdin)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil && said.Len() > 0 {
		err = fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(said.Bytes()))
	}
	return string(out), err
}
